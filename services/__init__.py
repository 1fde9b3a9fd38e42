"""One package a service. Services talk through topics only and never import each other."""
