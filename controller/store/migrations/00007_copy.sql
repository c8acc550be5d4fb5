-- +goose Up

ALTER TABLE controller
    ADD COLUMN addresses   inet[] NOT NULL DEFAULT '{}',
    ADD COLUMN boot_port   integer NOT NULL DEFAULT 0 CHECK (boot_port BETWEEN 0 AND 65535),
    ADD COLUMN report_port integer NOT NULL DEFAULT 0 CHECK (report_port BETWEEN 0 AND 65535),
    ADD COLUMN api_urls    text[] NOT NULL DEFAULT '{}';
COMMENT ON TABLE controller IS 'One running ingotd. Each writes its own row every few seconds; a stale heartbeat means that the agents it held are offline. Addresses (with their prefixes) are where machines reach its boot and report ports, api_urls where other controllers do; written at its start.';

ALTER TABLE image_copy ADD COLUMN pulled boolean NOT NULL DEFAULT false;
COMMENT ON TABLE image_copy IS 'Which controller has an image''s frames on its disk. Written by that controller once they are verified; pulled from another one, and then given up when the space is needed, or imported there.';
