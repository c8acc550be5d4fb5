-- +goose Up

CREATE TABLE image (
    digest            text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
    project_id        bigint NOT NULL DEFAULT 1 REFERENCES project,
    name              text NOT NULL CHECK (name <> ''),
    version           text NOT NULL DEFAULT '',
    architecture      text NOT NULL CHECK (architecture <> ''),
    kind              text NOT NULL CHECK (kind IN ('disk', 'tree')),
    size_bytes        bigint NOT NULL CHECK (size_bytes > 0),
    packed_size_bytes bigint NOT NULL CHECK (packed_size_bytes >= 0),
    sector_bytes      integer NOT NULL CHECK (sector_bytes > 0),
    frame_bytes       integer NOT NULL CHECK (frame_bytes > 0),
    kexec_allowed     boolean NOT NULL DEFAULT true,
    in_service        boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT ingot_now()
);
COMMENT ON TABLE image IS 'An image by the digest of its manifest. Written by the import; in service only once it is stored and verified.';
CREATE INDEX image_name ON image (name, created_at DESC);

CREATE TABLE image_copy (
    digest        text NOT NULL REFERENCES image ON DELETE CASCADE,
    controller_id text NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT ingot_now(),
    PRIMARY KEY (digest, controller_id)
);
COMMENT ON TABLE image_copy IS 'Which controller has an image''s frames on its disk. Written by that controller once they are verified.';

CREATE TABLE subnet (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    site_id    bigint NOT NULL DEFAULT 1 REFERENCES site,
    cidr       cidr NOT NULL,
    gateway    inet,
    dns        inet[] NOT NULL DEFAULT '{}',
    ntp        inet[] NOT NULL DEFAULT '{}',
    domain     text NOT NULL DEFAULT '',
    CONSTRAINT subnet_once UNIQUE (site_id, cidr)
);
COMMENT ON TABLE subnet IS 'One CIDR and what its clients are told. Written from the controller''s configuration.';

CREATE TABLE ip_range (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    subnet_id bigint NOT NULL REFERENCES subnet ON DELETE CASCADE,
    first     inet NOT NULL,
    last      inet NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('dynamic', 'reserved')),
    CONSTRAINT ip_range_ends CHECK (first <= last AND family(first) = 4 AND family(last) = 4),
    -- A box is as wide as its subnet's number and as high as the range: so two
    -- ranges of one kind and subnet never share an address. Doubles hold IPv4 exactly.
    CONSTRAINT ip_range_dynamic EXCLUDE USING gist
        (box(point(subnet_id::float8, (first - inet '0.0.0.0')::float8), point(subnet_id::float8, (last - inet '0.0.0.0')::float8)) WITH &&)
        WHERE (kind = 'dynamic'),
    CONSTRAINT ip_range_reserved EXCLUDE USING gist
        (box(point(subnet_id::float8, (first - inet '0.0.0.0')::float8), point(subnet_id::float8, (last - inet '0.0.0.0')::float8)) WITH &&)
        WHERE (kind = 'reserved')
);
COMMENT ON TABLE ip_range IS 'A run of addresses of a subnet: dynamic, where leases come from, or reserved, never leased. Written from the controller''s configuration.';

CREATE TABLE lease (
    id            bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    subnet_id     bigint NOT NULL REFERENCES subnet ON DELETE CASCADE,
    client_key    bytea NOT NULL CHECK (octet_length(client_key) BETWEEN 1 AND 258),
    hardware_addr bytea,
    client_id     bytea,
    address       inet NOT NULL,
    stage         text NOT NULL CHECK (stage IN ('boot', 'installed')),
    state         text NOT NULL CHECK (state IN ('offered', 'active', 'released', 'declined')),
    expires_at    timestamptz NOT NULL,
    hostname      text NOT NULL DEFAULT '',
    vendor_class  text NOT NULL DEFAULT '',
    delegated_by  text NOT NULL DEFAULT '',
    updated_at    timestamptz NOT NULL DEFAULT ingot_now()
);
COMMENT ON TABLE lease IS 'An address and the client that was offered it, holds it, held it last (released) or found it in use (declined: in quarantine until it expires). Written by the DHCP server''s calls, under the subnet''s row lock. delegated_by names an edge that answers for it.';
CREATE UNIQUE INDEX lease_client ON lease (subnet_id, client_key) WHERE state <> 'declined';
CREATE UNIQUE INDEX lease_address ON lease (subnet_id, address) WHERE state <> 'released';
CREATE INDEX lease_hardware_addr ON lease (hardware_addr);
