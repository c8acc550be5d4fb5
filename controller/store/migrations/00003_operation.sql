-- +goose Up

CREATE TABLE operation (
    id                  text PRIMARY KEY CHECK (id ~ '^[a-z0-9-]{4,40}$'),
    machine_id          text NOT NULL REFERENCES machine ON DELETE CASCADE,
    project_id          bigint NOT NULL DEFAULT 1 REFERENCES project,
    kind                text NOT NULL CHECK (kind IN ('commission', 'deploy', 'release', 'power')),
    state               text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    wish_generation     bigint NOT NULL CHECK (wish_generation > 0),
    wish_sealed         bytea NOT NULL,
    image_digest        text NOT NULL DEFAULT '',
    report_token_sha256 bytea CHECK (octet_length(report_token_sha256) = 32),
    phase               text NOT NULL DEFAULT '',
    reason              text NOT NULL DEFAULT '',
    detail              text NOT NULL DEFAULT '',
    request_id          text NOT NULL DEFAULT '',
    requested_by        text NOT NULL CHECK (requested_by <> ''),
    cancel_asked        boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT ingot_now(),
    finished_at         timestamptz,
    CONSTRAINT operation_generation UNIQUE (machine_id, wish_generation),
    CONSTRAINT operation_end CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT operation_failure CHECK (state <> 'failed' OR reason <> ''),
    CONSTRAINT operation_image CHECK ((kind = 'deploy') = (image_digest <> ''))
);
COMMENT ON TABLE operation IS 'One wish and how far it is. Made by the operators'' API, brought forward by the lifecycle engine. What was asked is sealed: it holds user-data and tokens.';
CREATE UNIQUE INDEX operation_request ON operation (machine_id, request_id) WHERE request_id <> '';
CREATE UNIQUE INDEX operation_under_way ON operation (machine_id) WHERE state IN ('pending', 'running');
CREATE UNIQUE INDEX operation_report_token ON operation (report_token_sha256);
CREATE INDEX operation_created ON operation (created_at DESC, id);

ALTER TABLE machine ADD CONSTRAINT machine_operation FOREIGN KEY (operation_id) REFERENCES operation (id) ON DELETE SET NULL;

CREATE TABLE step (
    operation_id text NOT NULL REFERENCES operation ON DELETE CASCADE,
    name         text NOT NULL CHECK (name <> ''),
    position     bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    state        text NOT NULL CHECK (state IN ('intended', 'done', 'failed')),
    detail       text NOT NULL DEFAULT '',
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    PRIMARY KEY (operation_id, name),
    CONSTRAINT step_end CHECK ((finished_at IS NOT NULL) = (state <> 'intended'))
);
COMMENT ON TABLE step IS 'One step of an operation: intended before its effect, done or failed after. Written by the lifecycle engine.';

CREATE TABLE machine_order (
    id               bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    machine_id       text NOT NULL REFERENCES machine ON DELETE CASCADE,
    site_id          bigint NOT NULL DEFAULT 1 REFERENCES site,
    operation_id     text NOT NULL REFERENCES operation ON DELETE CASCADE,
    step             text NOT NULL CHECK (step <> ''),
    attempt          integer NOT NULL CHECK (attempt > 0),
    target           text NOT NULL CHECK (target IN ('agent', 'bmc')),
    wish_generation  bigint NOT NULL CHECK (wish_generation > 0),
    boot_generation  bigint NOT NULL CHECK (boot_generation >= 0),
    lease_token      bigint NOT NULL CHECK (lease_token > 0),
    cause            text NOT NULL CHECK (cause <> ''),
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'succeeded', 'failed', 'superseded')),
    job_sealed       bytea NOT NULL,
    result_sealed    bytea,
    reason           text NOT NULL DEFAULT '',
    detail           text NOT NULL DEFAULT '',
    audit_id         bigint REFERENCES audit,
    created_at       timestamptz NOT NULL DEFAULT ingot_now(),
    delivered_at     timestamptz,
    finished_at      timestamptz,
    claim_holder     text NOT NULL DEFAULT '',
    claim_expires_at timestamptz,
    CONSTRAINT machine_order_once UNIQUE (operation_id, step, attempt, target),
    -- No power action without an audit row that names its cause.
    CONSTRAINT machine_order_audit CHECK (target <> 'bmc' OR audit_id IS NOT NULL),
    CONSTRAINT machine_order_boot CHECK ((target = 'bmc') = (boot_generation = 0)),
    CONSTRAINT machine_order_end CHECK (finished_at IS NOT NULL OR state NOT IN ('succeeded', 'failed')),
    CONSTRAINT machine_order_failure CHECK (state <> 'failed' OR reason <> '')
);
COMMENT ON TABLE machine_order IS 'One thing to be done outside the database, by the agent or through the BMC. Given by the lifecycle engine; delivered and finished by the controller that holds the stream or the claim. Job and result are sealed.';
CREATE INDEX machine_order_operation ON machine_order (operation_id, id);
CREATE INDEX machine_order_unfinished ON machine_order (machine_id, target, id) WHERE state IN ('pending', 'delivered');
CREATE INDEX machine_order_claimed ON machine_order (machine_id) WHERE claim_holder <> '' AND finished_at IS NULL;

CREATE TABLE event (
    machine_id text NOT NULL REFERENCES machine ON DELETE CASCADE,
    sequence   bigint NOT NULL CHECK (sequence > 0),
    at         timestamptz NOT NULL DEFAULT ingot_now(),
    kind       text NOT NULL CHECK (kind <> ''),
    text       text NOT NULL,
    detail     jsonb NOT NULL DEFAULT '{}',
    xid        xid8 NOT NULL,
    PRIMARY KEY (machine_id, sequence)
);
COMMENT ON TABLE event IS 'One line of a machine''s history. The sequence is given under the machine''s row lock and has no gap. xid is the writing transaction''s, or the machine''s last one if that is higher: a watch reads below the oldest transaction under way, so it misses none.';
CREATE INDEX event_watch ON event (xid, machine_id, sequence);

CREATE TABLE deployment (
    operation_id          text PRIMARY KEY REFERENCES operation ON DELETE CASCADE,
    machine_id            text NOT NULL REFERENCES machine ON DELETE CASCADE,
    is_current            boolean NOT NULL DEFAULT true,
    image_digest          text NOT NULL,
    image_name            text NOT NULL DEFAULT '',
    disk_serial           text NOT NULL DEFAULT '',
    instance_id           text NOT NULL DEFAULT '',
    proof                 text NOT NULL DEFAULT '',
    boot_path             text NOT NULL DEFAULT '',
    boot_path_detail      text NOT NULL DEFAULT '',
    entered_by            text NOT NULL DEFAULT '',
    loader_partition_guid text NOT NULL DEFAULT '',
    loader_path           text NOT NULL DEFAULT '',
    bytes_fetched         bigint NOT NULL DEFAULT 0,
    bytes_written         bigint NOT NULL DEFAULT 0,
    flushed_after_ns      bigint NOT NULL DEFAULT 0,
    verified_after_ns     bigint NOT NULL DEFAULT 0,
    written_at            timestamptz NOT NULL DEFAULT ingot_now()
);
COMMENT ON TABLE deployment IS 'What an operation put on a machine''s disk. Written by the lifecycle engine; not current any more when another one or an erase replaced it.';
CREATE UNIQUE INDEX deployment_current ON deployment (machine_id) WHERE is_current;
CREATE INDEX deployment_image ON deployment (image_digest) WHERE is_current;

CREATE TABLE first_boot_report (
    operation_id  text PRIMARY KEY REFERENCES operation ON DELETE CASCADE,
    machine_id    text NOT NULL REFERENCES machine ON DELETE CASCADE,
    report        jsonb NOT NULL,
    report_sha256 bytea NOT NULL,
    at            timestamptz NOT NULL DEFAULT ingot_now()
);
COMMENT ON TABLE first_boot_report IS 'The proof of life of an installed system: what it reported, once, with the one-time token of its operation.';

CREATE TABLE erase_receipt (
    operation_id   text NOT NULL REFERENCES operation ON DELETE CASCADE,
    machine_id     text NOT NULL REFERENCES machine ON DELETE CASCADE,
    disk_serial    text NOT NULL,
    disk_model     text NOT NULL DEFAULT '',
    wwn            text NOT NULL DEFAULT '',
    size_bytes     bigint NOT NULL DEFAULT 0,
    method         text NOT NULL DEFAULT '',
    started_at     timestamptz,
    ended_at       timestamptz,
    verified_bytes bigint NOT NULL DEFAULT 0,
    verified       boolean NOT NULL,
    does_not_prove text NOT NULL DEFAULT '',
    PRIMARY KEY (operation_id, disk_serial, wwn)
);
COMMENT ON TABLE erase_receipt IS 'What was done to one disk to erase it, and what that does not prove. Written with the decision that frees the machine; never changed.';
CREATE INDEX erase_receipt_machine ON erase_receipt (machine_id);
