-- What the summary sink kept in state.db when a row of it was a socket: five flows of two minutes, made by that version.
BEGIN TRANSACTION;
CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 1), newest_ms INTEGER, closed_before_ms INTEGER, flows INTEGER, late_flows INTEGER, written_at REAL);
INSERT INTO "clock" VALUES(1,1777636875000,1777636740000,5,0,1777636875.0);
CREATE TABLE journal (only INTEGER PRIMARY KEY CHECK (only = 1), sequence INTEGER, spool_bytes INTEGER, spool_rows INTEGER, first_row_at REAL, final TEXT);
CREATE TABLE open_minute (minute INTEGER, protocol INTEGER, local_ip TEXT, remote_ip TEXT, service_port INTEGER, direction TEXT, flows INTEGER NOT NULL, begins INTEGER NOT NULL, denied INTEGER NOT NULL, packets_in INTEGER NOT NULL, packets_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, PRIMARY KEY (minute, protocol, local_ip, remote_ip, service_port, direction)) WITHOUT ROWID;
INSERT INTO "open_minute" VALUES(1777636800000,6,'10.0.0.4','10.9.0.9',443,'outbound',2,1,0,4,2,200,20);
INSERT INTO "open_minute" VALUES(1777636800000,17,'10.0.0.4','10.9.0.9',53,'outbound',1,0,0,2,1,100,10);
INSERT INTO "open_minute" VALUES(1777636860000,6,'10.0.0.4','10.9.0.9',443,'outbound',1,0,0,2,1,100,10);
INSERT INTO "open_minute" VALUES(1777636860000,17,'10.9.0.9','10.0.0.4',53,'inbound',1,0,0,1,2,10,100);
CREATE TABLE position (generation BLOB PRIMARY KEY, record_offset INTEGER NOT NULL, tuple_index INTEGER NOT NULL, touched_day INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "position" VALUES(X'C4E378225EF49B740DF6BCCB5C479D01',4020,0,20574);
CREATE TABLE socket (protocol INTEGER, local_ip TEXT, remote_ip TEXT, service_port INTEGER, direction TEXT, since INTEGER NOT NULL, last INTEGER NOT NULL, restarted INTEGER NOT NULL, packets_in INTEGER NOT NULL, packets_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, flows INTEGER NOT NULL, total_packets_in INTEGER NOT NULL, total_packets_out INTEGER NOT NULL, total_bytes_in INTEGER NOT NULL, total_bytes_out INTEGER NOT NULL, PRIMARY KEY (protocol, local_ip, remote_ip, service_port, direction)) WITHOUT ROWID;
INSERT INTO "socket" VALUES(6,'10.0.0.4','10.9.0.9',443,'outbound',1777636820000,1777636870000,0,4,2,200,20,3,6,3,300,30);
INSERT INTO "socket" VALUES(17,'10.0.0.4','10.9.0.9',53,'outbound',1777636830000,1777636830000,0,2,1,100,10,1,2,1,100,10);
INSERT INTO "socket" VALUES(17,'10.9.0.9','10.0.0.4',53,'inbound',1777636875000,1777636875000,0,1,2,10,100,1,1,2,10,100);
COMMIT;
