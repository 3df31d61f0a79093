-- What the layers above keep under a name: what is set for users, where they are logged in, tokens.

CREATE TABLE documents (
    collection TEXT NOT NULL,
    name       TEXT NOT NULL,
    body       BLOB NOT NULL,                     -- sealed to collection and name
    until      INTEGER,                           -- null: for ever
    PRIMARY KEY (collection, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX documents_until ON documents (until) WHERE until IS NOT NULL;
