-- +goose Up

CREATE TABLE machine (
    id               text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{6}$'),
    hostname         text NOT NULL CHECK (hostname ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    project_id       bigint NOT NULL DEFAULT 1 REFERENCES project,
    site_id          bigint NOT NULL DEFAULT 1 REFERENCES site,
    approved         boolean NOT NULL DEFAULT false,
    state            text NOT NULL DEFAULT 'enrolled' CHECK (state IN
        ('enrolled', 'commissioning', 'ready', 'allocated', 'deploying', 'deployed', 'releasing', 'erasing', 'broken')),
    outcome          text NOT NULL DEFAULT 'none' CHECK (outcome IN ('none', 'running', 'failed', 'cancelled')),
    reason           text NOT NULL DEFAULT '',
    detail           text NOT NULL DEFAULT '',
    state_since      timestamptz NOT NULL DEFAULT ingot_now(),
    deadline_at      timestamptz,
    wish_generation  bigint NOT NULL DEFAULT 0 CHECK (wish_generation >= 0),
    boot_generation  bigint NOT NULL DEFAULT 0 CHECK (boot_generation >= 0),
    operation_id     text,
    architecture     text NOT NULL DEFAULT '',
    boot_mode        text NOT NULL DEFAULT '' CHECK (boot_mode IN ('', 'bios', 'uefi')),
    uuid             uuid,
    serial           text NOT NULL DEFAULT '',
    vendor           text NOT NULL DEFAULT '',
    product          text NOT NULL DEFAULT '',
    memory_bytes     bigint NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0),
    cpu_threads      bigint NOT NULL DEFAULT 0 CHECK (cpu_threads >= 0),
    power_state      text NOT NULL DEFAULT 'unknown' CHECK (power_state IN ('unknown', 'on', 'off')),
    warnings         jsonb NOT NULL DEFAULT '[]',
    agent_online     boolean NOT NULL DEFAULT false,
    agent_controller text NOT NULL DEFAULT '',
    agent_stream     bigint NOT NULL DEFAULT 0,
    agent_seen_at    timestamptz,
    boot_id          text NOT NULL DEFAULT '',
    boot_seen_at     timestamptz,
    boot_seen_what   text NOT NULL DEFAULT '',
    report_sequence  bigint NOT NULL DEFAULT 0 CHECK (report_sequence >= 0),
    event_sequence   bigint NOT NULL DEFAULT 0 CHECK (event_sequence >= 0),
    event_xid        xid8 NOT NULL DEFAULT '0',
    wake_at          timestamptz NOT NULL DEFAULT ingot_now(),
    lease_holder     text NOT NULL DEFAULT '',
    lease_token      bigint NOT NULL DEFAULT 0 CHECK (lease_token >= 0),
    lease_expires_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT ingot_now(),
    CONSTRAINT machine_hostname UNIQUE (site_id, hostname),
    -- A state that passes has a deadline while somebody works on it.
    CONSTRAINT machine_deadline CHECK (outcome <> 'running' OR deadline_at IS NOT NULL
        OR state NOT IN ('commissioning', 'deploying', 'releasing', 'erasing')),
    CONSTRAINT machine_failure CHECK (outcome <> 'failed' OR reason <> ''),
    CONSTRAINT machine_lease CHECK ((lease_holder <> '') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT machine_agent CHECK (NOT agent_online OR agent_controller <> '')
);
COMMENT ON TABLE machine IS 'One physical or virtual machine. State, outcome, reason and deadline are written by the lifecycle engine and its reaper; facts by the agent''s collections; presence by the controller that holds the agent''s stream; identity by the claim of a boot session.';
COMMENT ON COLUMN machine.wake_at IS 'When the engine looks next. A claim sets infinity, every nudge sets now: so a nudge during a turn is not lost.';
COMMENT ON COLUMN machine.lease_token IS 'Rises with each claim; a decision or an order with a lower one is refused.';
COMMENT ON COLUMN machine.report_sequence IS 'Last report of the current boot that is stored.';
COMMENT ON COLUMN machine.event_xid IS 'Highest xid given to an event of this machine; keeps the order of a watch across machines equal to the sequence of each.';
CREATE INDEX machine_wake ON machine (wake_at) WHERE lease_holder = '';
CREATE INDEX machine_lease_expiry ON machine (lease_expires_at) WHERE lease_holder <> '';
CREATE INDEX machine_deadline ON machine (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX machine_uuid ON machine (uuid);
CREATE INDEX machine_agent_controller ON machine (agent_controller) WHERE agent_online;

CREATE TABLE nic (
    id                    bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    machine_id            text NOT NULL REFERENCES machine ON DELETE CASCADE,
    site_id               bigint NOT NULL DEFAULT 1 REFERENCES site,
    hardware_addr         bytea NOT NULL CHECK (octet_length(hardware_addr) BETWEEN 6 AND 20),
    mac                   macaddr,
    locally_administered  boolean NOT NULL DEFAULT false,
    declared              boolean NOT NULL DEFAULT false,
    present               boolean NOT NULL DEFAULT true,
    name                  text NOT NULL DEFAULT '',
    speed_bits_per_second bigint NOT NULL DEFAULT 0,
    link_up               boolean NOT NULL DEFAULT false,
    driver                text NOT NULL DEFAULT '',
    boot_nic              boolean NOT NULL DEFAULT false,
    neighbour             text NOT NULL DEFAULT '',
    CONSTRAINT nic_once UNIQUE (machine_id, hardware_addr),
    CONSTRAINT nic_mac CHECK ((octet_length(hardware_addr) = 6) = (mac IS NOT NULL))
);
COMMENT ON TABLE nic IS 'One interface of a machine by its permanent address. Written by the claim of a boot session, by collections (ids survive) and by an operator who adds a machine (declared). A NIC that a collection misses stays, not present.';
CREATE UNIQUE INDEX nic_permanent ON nic (site_id, hardware_addr) WHERE NOT locally_administered;
CREATE UNIQUE INDEX nic_declared ON nic (site_id, hardware_addr) WHERE declared;
CREATE INDEX nic_hardware_addr ON nic (hardware_addr);

CREATE TABLE disk (
    id           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    machine_id   text NOT NULL REFERENCES machine ON DELETE CASCADE,
    name         text NOT NULL DEFAULT '',
    serial       text NOT NULL DEFAULT '',
    wwn          text NOT NULL DEFAULT '',
    by_path      text NOT NULL DEFAULT '',
    model        text NOT NULL DEFAULT '',
    size_bytes   bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    sector_bytes integer NOT NULL DEFAULT 0 CHECK (sector_bytes >= 0),
    kind         text NOT NULL DEFAULT 'unknown' CHECK (kind IN ('nvme', 'ssd', 'virtual', 'hdd', 'unknown')),
    health       text NOT NULL DEFAULT '',
    read_only    boolean NOT NULL DEFAULT false,
    removable    boolean NOT NULL DEFAULT false,
    present      boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE disk IS 'One disk of a machine, reconciled from collections by serial, then WWN, then path; ids survive. A disk that a collection misses stays, not present.';
CREATE INDEX disk_machine ON disk (machine_id);

CREATE TABLE bmc (
    machine_id         text PRIMARY KEY REFERENCES machine ON DELETE CASCADE,
    url                text NOT NULL CHECK (url <> ''),
    user_name          text NOT NULL DEFAULT '',
    password_sealed    bytea NOT NULL,
    certificate_sha256 text NOT NULL DEFAULT '',
    vendor             text NOT NULL DEFAULT '',
    model              text NOT NULL DEFAULT '',
    firmware           text NOT NULL DEFAULT '',
    last_error         text NOT NULL DEFAULT '',
    seen_at            timestamptz
);
COMMENT ON TABLE bmc IS 'How a machine''s BMC is reached; the password is sealed. Access is written by operators, the rest by who speaks to the chip.';
CREATE UNIQUE INDEX bmc_url ON bmc (url) WHERE url <> 'manual:';

CREATE TABLE collection (
    id              bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    machine_id      text NOT NULL REFERENCES machine ON DELETE CASCADE,
    boot_generation bigint NOT NULL,
    at              timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT ingot_now(),
    payload         bytea NOT NULL CHECK (octet_length(payload) <= 4194304)
);
COMMENT ON TABLE collection IS 'One complete inventory as an agent sent it (protobuf), never edited. Written with the report that brought it; the newest twenty of a machine are kept.';
CREATE INDEX collection_machine ON collection (machine_id, id DESC);

CREATE TABLE test_result (
    id              bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    machine_id      text NOT NULL REFERENCES machine ON DELETE CASCADE,
    order_id        bigint,
    boot_generation bigint NOT NULL,
    name            text NOT NULL CHECK (name <> ''),
    subject         text NOT NULL DEFAULT '',
    outcome         text NOT NULL CHECK (outcome IN ('passed', 'failed', 'skipped')),
    detail          text NOT NULL DEFAULT '',
    elapsed_ns      bigint NOT NULL DEFAULT 0,
    at              timestamptz NOT NULL
);
COMMENT ON TABLE test_result IS 'One hardware test''s result, written with the report that brought it.';
CREATE INDEX test_result_machine ON test_result (machine_id, id DESC);

CREATE TABLE boot_session (
    id                 bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    site_id            bigint NOT NULL DEFAULT 1 REFERENCES site,
    salt               bytea NOT NULL CHECK (octet_length(salt) = 16),
    nonce_sha256       bytea NOT NULL UNIQUE CHECK (octet_length(nonce_sha256) = 32),
    hardware_addr      bytea NOT NULL CHECK (octet_length(hardware_addr) BETWEEN 6 AND 20),
    uuid               uuid,
    architecture       text NOT NULL DEFAULT '',
    boot_mode          text NOT NULL DEFAULT '',
    interface          text NOT NULL DEFAULT '',
    opened_at          timestamptz NOT NULL DEFAULT ingot_now(),
    expires_at         timestamptz NOT NULL,
    claimed_at         timestamptz,
    claimed_key_sha256 bytea CHECK (octet_length(claimed_key_sha256) = 32),
    machine_id         text REFERENCES machine ON DELETE CASCADE,
    boot_generation    bigint,
    CONSTRAINT boot_session_claim CHECK (
        (claimed_at IS NULL) = (claimed_key_sha256 IS NULL) AND
        (claimed_at IS NULL) = (machine_id IS NULL) AND
        (claimed_at IS NULL) = (boot_generation IS NULL))
);
COMMENT ON TABLE boot_session IS 'A window of fifteen minutes in which one boot of one machine may enrol. Opened when a boot script is fetched, claimed once by an agent''s key. The nonce is made again from id and salt with the key file''s key; only its hash is here.';
CREATE INDEX boot_session_open ON boot_session (hardware_addr, opened_at DESC) WHERE claimed_at IS NULL;
CREATE INDEX boot_session_expiry ON boot_session (expires_at);

CREATE TABLE agent_certificate (
    serial          text PRIMARY KEY,
    machine_id      text NOT NULL REFERENCES machine ON DELETE CASCADE,
    boot_generation bigint NOT NULL,
    key_sha256      bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    issued_at       timestamptz NOT NULL DEFAULT ingot_now(),
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
COMMENT ON TABLE agent_certificate IS 'A client certificate that was given to one boot of an agent. Written when it is issued.';
CREATE INDEX agent_certificate_machine ON agent_certificate (machine_id, boot_generation);
