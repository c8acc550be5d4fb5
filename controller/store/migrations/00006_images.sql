-- +goose Up

ALTER TABLE image ADD COLUMN private boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN image.private IS 'Machines are given its frames over TLS only. Once private it stays so.';
DROP INDEX image_name;
CREATE INDEX image_name ON image (name, architecture, created_at DESC);

CREATE TABLE image_signature (
    digest    text NOT NULL REFERENCES image ON DELETE CASCADE,
    key_id    text NOT NULL CHECK (key_id ~ '^[0-9A-F]{16}$'),
    signature bytea NOT NULL CHECK (octet_length(signature) BETWEEN 1 AND 1024),
    added_by  text NOT NULL CHECK (added_by <> ''),
    added_at  timestamptz NOT NULL DEFAULT ingot_now(),
    PRIMARY KEY (digest, key_id)
);
COMMENT ON TABLE image_signature IS 'A detached minisign signature of an image''s manifest, as somebody brought it. Written by the operators'' API; who trusts its key is trusted_key''s to say, and the agent checks it again.';

CREATE TABLE trusted_key (
    name       text PRIMARY KEY CHECK (name <> ''),
    key_id     text NOT NULL CHECK (key_id ~ '^[0-9A-F]{16}$'),
    public_key text NOT NULL CHECK (public_key <> ''),
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL DEFAULT ingot_now(),
    CONSTRAINT trusted_key_id UNIQUE (key_id)
);
COMMENT ON TABLE trusted_key IS 'A minisign public key whose signatures of images count. Written by the operators'' API, with an audit row for each change.';

CREATE TABLE pool (
    name                  text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    require_signed_images boolean NOT NULL DEFAULT false,
    created_at            timestamptz NOT NULL DEFAULT ingot_now()
);
COMMENT ON TABLE pool IS 'Machines under one policy. Written by the operators'' API; the pool default is always there.';
INSERT INTO pool (name) VALUES ('default');

ALTER TABLE machine ADD COLUMN pool text NOT NULL DEFAULT 'default' REFERENCES pool;
CREATE INDEX machine_pool ON machine (pool);

ALTER TABLE deployment
    ADD COLUMN bytes_kept bigint NOT NULL DEFAULT 0,
    ADD COLUMN bytes_from_peers bigint NOT NULL DEFAULT 0;
