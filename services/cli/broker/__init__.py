"""What an administrator of Kafka needs: ``blobtide topics`` and ``blobtide acls``."""
