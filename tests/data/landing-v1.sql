-- The index of a landing as version 1 wrote it, as SQL text: two patients, one of them changed, one deleted
-- Observation, own output, a checkpoint. The segment stands in tests/landing/test_migrate.py.
PRAGMA user_version = 1;
BEGIN;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (number INTEGER PRIMARY KEY, length INTEGER NOT NULL);
CREATE TABLE landed (
    sequence      INTEGER PRIMARY KEY,
    type          TEXT NOT NULL,
    id            TEXT NOT NULL,
    version       TEXT NOT NULL,
    last_updated  TEXT NOT NULL,
    subject       TEXT,
    kind          INTEGER NOT NULL,
    sha256        BLOB NOT NULL,
    segment       INTEGER,
    offset        INTEGER,
    length        INTEGER NOT NULL,
    origin        TEXT NOT NULL,
    superseded_by INTEGER
);
CREATE INDEX landed_key ON landed (type, id, sequence);
CREATE INDEX landed_subject ON landed (subject, type, id);
CREATE INDEX landed_unreadable ON landed (origin) WHERE kind = 3 AND superseded_by IS NULL;
CREATE TABLE reference (type TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (type, id)) WITHOUT ROWID;
CREATE TABLE checkpoint (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO segment VALUES (1, 234);
INSERT INTO landed VALUES (1, 'Patient', 'a', '1', '', 'Patient/a', 0, X'238ce12937fe1d22d0ff9b84105e752505443c05c77228a0360a7dbb89f35f96', 1, 0, 60, 'a.ndjson:1', 4);
INSERT INTO landed VALUES (2, 'Observation', 'o', '', '', 'Patient/a', 0, X'3200e15ad351b30c10c6fe93d4ad25a91778951d0ce00a3b92d8a0a0165173af', 1, 61, 75, 'a.ndjson:2', 3);
INSERT INTO landed VALUES (3, 'Observation', 'o', '', '', NULL, 1, X'', NULL, NULL, 0, '', NULL);
INSERT INTO landed VALUES (4, 'Patient', 'a', '2', '', 'Patient/a', 0, X'856c98a7906444bb357e26a203769bcb8bb9adb592d94cc287ce10daaea2036b', 1, 137, 60, 'a.ndjson:3', NULL);
INSERT INTO landed VALUES (5, 'Patient', 'b', '', '', 'Patient/b', 0, X'458a7b0c04397598886d9b7ddea0af871b88facc7a570b17e74d6f7dd40f94b8', 1, 198, 35, 'a.ndjson:4', NULL);
INSERT INTO landed VALUES (6, 'Group', 'fa-g', '1', '', NULL, 2, X'69e7c456c5b1b85d79b01e728baa5beb7950f65470d2d7d94a9a6268a30a8673', NULL, NULL, 0, 'Group?_id', NULL);
INSERT INTO reference VALUES ('Organization', 'x');
INSERT INTO checkpoint VALUES ('Patient/a|0123456789abcdef', '{"since": "2024-05-01T12:00:00.000+00:00"}');
COMMIT;
