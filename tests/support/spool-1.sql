PRAGMA application_id = 1128418372;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE content (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, headers BLOB NOT NULL,
    enqueued REAL NOT NULL, body BLOB NOT NULL);
INSERT INTO "content" VALUES(1,'a',X'7B7D',1700000000.0,X'31');
INSERT INTO "content" VALUES(2,'b',X'7B7D',1700000000.0,X'32');
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL,
    priority INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0, owner TEXT,
    died REAL, reason TEXT, error TEXT, route TEXT);
INSERT INTO "message" VALUES(1,'work',0,0,0,0.0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "message" VALUES(2,'work',3,0,1,0.0,NULL,1700000001.0,'bad','ValueError','work');
CREATE INDEX ready ON message (queue, priority DESC, seq) WHERE state = 0;
CREATE INDEX delayed ON message (queue, not_before) WHERE state = 1;
CREATE INDEX claimed ON message (owner) WHERE state = 2;
CREATE INDEX dead ON message (queue, died) WHERE state = 3;
CREATE TRIGGER forget AFTER DELETE ON message BEGIN
    DELETE FROM content WHERE seq = OLD.seq;
END;
CREATE INDEX stray ON message (seq) WHERE (typeof(queue) != 'text' OR coalesce(state, -1) NOT IN (0, 1, 2, 3) OR typeof(not_before) NOT IN ('real', 'integer'));
COMMIT;
