CREATE FUNCTION public.ingot_now() RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$ SELECT coalesce((SELECT held_at FROM held_clock), clock_timestamp()) $$;
COMMENT ON FUNCTION public.ingot_now() IS 'The only clock of all queries. Declared stable so that an index can be used with it; it moves between statements of one transaction.';
CREATE TABLE public.agent_certificate (
    serial text NOT NULL,
    machine_id text NOT NULL,
    boot_generation bigint NOT NULL,
    key_sha256 bytea NOT NULL,
    issued_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT agent_certificate_key_sha256_check CHECK ((octet_length(key_sha256) = 32))
);
COMMENT ON TABLE public.agent_certificate IS 'A client certificate that was given to one boot of an agent. Written when it is issued.';
CREATE TABLE public.audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT audit_action_check CHECK ((action <> ''::text)),
    CONSTRAINT audit_actor_check CHECK ((actor <> ''::text))
);
COMMENT ON TABLE public.audit IS 'Who did what to what, and why. Written in the transaction of the change itself; power actions before they can be carried out. Never changed.';
ALTER TABLE public.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.authority (
    one boolean DEFAULT true NOT NULL,
    certificate bytea NOT NULL,
    key_sealed bytea NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT authority_one_check CHECK (one)
);
COMMENT ON TABLE public.authority IS 'The certificate authority of agents: one row, made once by the first controller that starts. The key is sealed.';
CREATE TABLE public.bmc (
    machine_id text NOT NULL,
    url text NOT NULL,
    user_name text DEFAULT ''::text NOT NULL,
    password_sealed bytea NOT NULL,
    certificate_sha256 text DEFAULT ''::text NOT NULL,
    vendor text DEFAULT ''::text NOT NULL,
    model text DEFAULT ''::text NOT NULL,
    firmware text DEFAULT ''::text NOT NULL,
    last_error text DEFAULT ''::text NOT NULL,
    seen_at timestamp with time zone,
    CONSTRAINT bmc_url_check CHECK ((url <> ''::text))
);
COMMENT ON TABLE public.bmc IS 'How a machine''s BMC is reached; the password is sealed. Access is written by operators, the rest by who speaks to the chip.';
CREATE TABLE public.boot_session (
    id bigint NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    salt bytea NOT NULL,
    nonce_sha256 bytea NOT NULL,
    hardware_addr bytea NOT NULL,
    uuid uuid,
    architecture text DEFAULT ''::text NOT NULL,
    boot_mode text DEFAULT ''::text NOT NULL,
    interface text DEFAULT ''::text NOT NULL,
    opened_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone,
    claimed_key_sha256 bytea,
    machine_id text,
    boot_generation bigint,
    CONSTRAINT boot_session_claim CHECK ((((claimed_at IS NULL) = (claimed_key_sha256 IS NULL)) AND ((claimed_at IS NULL) = (machine_id IS NULL)) AND ((claimed_at IS NULL) = (boot_generation IS NULL)))),
    CONSTRAINT boot_session_claimed_key_sha256_check CHECK ((octet_length(claimed_key_sha256) = 32)),
    CONSTRAINT boot_session_hardware_addr_check CHECK (((octet_length(hardware_addr) >= 6) AND (octet_length(hardware_addr) <= 20))),
    CONSTRAINT boot_session_nonce_sha256_check CHECK ((octet_length(nonce_sha256) = 32)),
    CONSTRAINT boot_session_salt_check CHECK ((octet_length(salt) = 16))
);
COMMENT ON TABLE public.boot_session IS 'A window of fifteen minutes in which one boot of one machine may enrol. Opened when a boot script is fetched, claimed once by an agent''s key. The nonce is made again from id and salt with the key file''s key; only its hash is here.';
ALTER TABLE public.boot_session ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.boot_session_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.collection (
    id bigint NOT NULL,
    machine_id text NOT NULL,
    boot_generation bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    stored_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT collection_payload_check CHECK ((octet_length(payload) <= 4194304))
);
COMMENT ON TABLE public.collection IS 'One complete inventory as an agent sent it (protobuf), never edited. Written with the report that brought it; the newest twenty of a machine are kept.';
ALTER TABLE public.collection ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.collection_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.controller (
    id text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    started_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    addresses inet[] DEFAULT '{}'::inet[] NOT NULL,
    boot_port integer DEFAULT 0 NOT NULL,
    report_port integer DEFAULT 0 NOT NULL,
    api_urls text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT controller_boot_port_check CHECK (((boot_port >= 0) AND (boot_port <= 65535))),
    CONSTRAINT controller_id_check CHECK ((id <> ''::text)),
    CONSTRAINT controller_report_port_check CHECK (((report_port >= 0) AND (report_port <= 65535)))
);
COMMENT ON TABLE public.controller IS 'One running ingotd. Each writes its own row every few seconds; a stale heartbeat means that the agents it held are offline. Addresses (with their prefixes) are where machines reach its boot and report ports, api_urls where other controllers do; written at its start.';
CREATE TABLE public.deployment (
    operation_id text NOT NULL,
    machine_id text NOT NULL,
    is_current boolean DEFAULT true NOT NULL,
    image_digest text NOT NULL,
    image_name text DEFAULT ''::text NOT NULL,
    disk_serial text DEFAULT ''::text NOT NULL,
    instance_id text DEFAULT ''::text NOT NULL,
    proof text DEFAULT ''::text NOT NULL,
    boot_path text DEFAULT ''::text NOT NULL,
    boot_path_detail text DEFAULT ''::text NOT NULL,
    entered_by text DEFAULT ''::text NOT NULL,
    loader_partition_guid text DEFAULT ''::text NOT NULL,
    loader_path text DEFAULT ''::text NOT NULL,
    bytes_fetched bigint DEFAULT 0 NOT NULL,
    bytes_written bigint DEFAULT 0 NOT NULL,
    flushed_after_ns bigint DEFAULT 0 NOT NULL,
    verified_after_ns bigint DEFAULT 0 NOT NULL,
    written_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    bytes_kept bigint DEFAULT 0 NOT NULL,
    bytes_from_peers bigint DEFAULT 0 NOT NULL
);
COMMENT ON TABLE public.deployment IS 'What an operation put on a machine''s disk. Written by the lifecycle engine; not current any more when another one or an erase replaced it.';
CREATE TABLE public.disk (
    id bigint NOT NULL,
    machine_id text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    serial text DEFAULT ''::text NOT NULL,
    wwn text DEFAULT ''::text NOT NULL,
    by_path text DEFAULT ''::text NOT NULL,
    model text DEFAULT ''::text NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    sector_bytes integer DEFAULT 0 NOT NULL,
    kind text DEFAULT 'unknown'::text NOT NULL,
    health text DEFAULT ''::text NOT NULL,
    read_only boolean DEFAULT false NOT NULL,
    removable boolean DEFAULT false NOT NULL,
    present boolean DEFAULT true NOT NULL,
    identity text GENERATED ALWAYS AS (
CASE
    WHEN (serial <> ''::text) THEN ('s '::text || serial)
    WHEN (wwn <> ''::text) THEN ('w '::text || wwn)
    ELSE ((('p '::text || machine_id) || ' '::text) || by_path)
END) STORED NOT NULL,
    CONSTRAINT disk_kind_check CHECK ((kind = ANY (ARRAY['nvme'::text, 'ssd'::text, 'virtual'::text, 'hdd'::text, 'unknown'::text]))),
    CONSTRAINT disk_sector_bytes_check CHECK ((sector_bytes >= 0)),
    CONSTRAINT disk_size_bytes_check CHECK ((size_bytes >= 0))
);
COMMENT ON TABLE public.disk IS 'One disk of a machine, reconciled from collections by serial, then WWN, then path; ids survive. A disk that a collection misses stays, not present.';
CREATE TABLE public.disk_data (
    id bigint NOT NULL,
    identity text NOT NULL,
    machine_id text NOT NULL,
    found_in text NOT NULL,
    serial text DEFAULT ''::text NOT NULL,
    wwn text DEFAULT ''::text NOT NULL,
    model text DEFAULT ''::text NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    operation_id text NOT NULL,
    written boolean NOT NULL,
    since timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT disk_data_identity_check CHECK ((identity <> ''::text))
);
COMMENT ON TABLE public.disk_data IS 'A disk that may hold what an owner left: an image was ordered onto it (written), or an installed system of its machine could write to it. Written before the order is sent; gone with a verified erase receipt or an operator''s word. It names machines (where it was written; where the disk was found last) without depending on them: a disk outlives a machine that is deleted.';
ALTER TABLE public.disk_data ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.disk_data_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW public.disk_holding AS
 SELECT d.id AS disk_id,
    d.machine_id,
    d.present,
    t.id AS data_id,
    t.machine_id AS written_in,
    t.operation_id,
    t.written,
    t.since
   FROM (public.disk d
     JOIN public.disk_data t ON (((t.identity = d.identity) AND ((t.machine_id = d.machine_id) OR ((t.model = d.model) AND (t.size_bytes = d.size_bytes))) AND ((t.wwn = ''::text) OR (d.wwn = ''::text) OR (t.wwn = d.wwn)))));
COMMENT ON VIEW public.disk_holding IS 'Which disk rows mean a disk that holds data. In another machine than the one it was written in, model and size must be the same too: serials repeat between makers.';
ALTER TABLE public.disk ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.disk_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.erase_receipt (
    operation_id text NOT NULL,
    machine_id text NOT NULL,
    disk_serial text NOT NULL,
    disk_model text DEFAULT ''::text NOT NULL,
    wwn text DEFAULT ''::text NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    method text DEFAULT ''::text NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    verified_bytes bigint DEFAULT 0 NOT NULL,
    verified boolean NOT NULL,
    does_not_prove text DEFAULT ''::text NOT NULL
);
COMMENT ON TABLE public.erase_receipt IS 'What was done to one disk to erase it, and what that does not prove. Written with the decision that frees the machine; never changed.';
CREATE TABLE public.event (
    machine_id text NOT NULL,
    sequence bigint NOT NULL,
    at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    kind text NOT NULL,
    text text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    xid xid8 NOT NULL,
    CONSTRAINT event_kind_check CHECK ((kind <> ''::text)),
    CONSTRAINT event_sequence_check CHECK ((sequence > 0))
);
COMMENT ON TABLE public.event IS 'One line of a machine''s history. The sequence is given under the machine''s row lock and has no gap. xid is the writing transaction''s, or the machine''s last one if that is higher: a watch reads below the oldest transaction under way, so it misses none.';
CREATE TABLE public.first_boot_report (
    operation_id text NOT NULL,
    machine_id text NOT NULL,
    report jsonb NOT NULL,
    report_sha256 bytea NOT NULL,
    at timestamp with time zone DEFAULT public.ingot_now() NOT NULL
);
COMMENT ON TABLE public.first_boot_report IS 'The proof of life of an installed system: what it reported, once, with the one-time token of its operation.';
CREATE TABLE public.held_clock (
    one boolean DEFAULT true NOT NULL,
    held_at timestamp with time zone NOT NULL,
    CONSTRAINT held_clock_one_check CHECK (one)
);
COMMENT ON TABLE public.held_clock IS 'At most one row: the time that ingot_now() shows instead of the real one. Written by tests only; empty in production.';
CREATE TABLE public.image (
    digest text NOT NULL,
    project_id bigint DEFAULT 1 NOT NULL,
    name text NOT NULL,
    version text DEFAULT ''::text NOT NULL,
    architecture text NOT NULL,
    kind text NOT NULL,
    size_bytes bigint NOT NULL,
    packed_size_bytes bigint NOT NULL,
    sector_bytes integer NOT NULL,
    frame_bytes integer NOT NULL,
    kexec_allowed boolean DEFAULT true NOT NULL,
    in_service boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    private boolean DEFAULT false NOT NULL,
    CONSTRAINT image_architecture_check CHECK ((architecture <> ''::text)),
    CONSTRAINT image_digest_check CHECK ((digest ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT image_frame_bytes_check CHECK ((frame_bytes > 0)),
    CONSTRAINT image_kind_check CHECK ((kind = ANY (ARRAY['disk'::text, 'tree'::text]))),
    CONSTRAINT image_name_check CHECK ((name <> ''::text)),
    CONSTRAINT image_packed_size_bytes_check CHECK ((packed_size_bytes >= 0)),
    CONSTRAINT image_sector_bytes_check CHECK ((sector_bytes > 0)),
    CONSTRAINT image_size_bytes_check CHECK ((size_bytes > 0))
);
COMMENT ON TABLE public.image IS 'An image by the digest of its manifest. Written by the import; in service only once it is stored and verified.';
COMMENT ON COLUMN public.image.private IS 'Machines are given its frames over TLS only. Once private it stays so.';
CREATE TABLE public.image_copy (
    digest text NOT NULL,
    controller_id text NOT NULL,
    stored_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    pulled boolean DEFAULT false NOT NULL
);
COMMENT ON TABLE public.image_copy IS 'Which controller has an image''s frames on its disk. Written by that controller once they are verified; pulled from another one, and then given up when the space is needed, or imported there.';
CREATE TABLE public.image_signature (
    digest text NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL,
    added_by text NOT NULL,
    added_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT image_signature_added_by_check CHECK ((added_by <> ''::text)),
    CONSTRAINT image_signature_key_id_check CHECK ((key_id ~ '^[0-9A-F]{16}$'::text)),
    CONSTRAINT image_signature_signature_check CHECK (((octet_length(signature) >= 1) AND (octet_length(signature) <= 1024)))
);
COMMENT ON TABLE public.image_signature IS 'A detached minisign signature of an image''s manifest, as somebody brought it. Written by the operators'' API; who trusts its key is trusted_key''s to say, and the agent checks it again.';
CREATE TABLE public.ip_range (
    id bigint NOT NULL,
    subnet_id bigint NOT NULL,
    first inet NOT NULL,
    last inet NOT NULL,
    kind text NOT NULL,
    CONSTRAINT ip_range_ends CHECK (((first <= last) AND (family(first) = 4) AND (family(last) = 4))),
    CONSTRAINT ip_range_kind_check CHECK ((kind = ANY (ARRAY['dynamic'::text, 'reserved'::text])))
);
COMMENT ON TABLE public.ip_range IS 'A run of addresses of a subnet: dynamic, where leases come from, or reserved, never leased. Written from the controller''s configuration.';
ALTER TABLE public.ip_range ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.ip_range_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.lease (
    id bigint NOT NULL,
    subnet_id bigint NOT NULL,
    client_key bytea NOT NULL,
    hardware_addr bytea,
    client_id bytea,
    address inet NOT NULL,
    stage text NOT NULL,
    state text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    hostname text DEFAULT ''::text NOT NULL,
    vendor_class text DEFAULT ''::text NOT NULL,
    delegated_by text DEFAULT ''::text NOT NULL,
    updated_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT lease_client_key_check CHECK (((octet_length(client_key) >= 1) AND (octet_length(client_key) <= 258))),
    CONSTRAINT lease_stage_check CHECK ((stage = ANY (ARRAY['boot'::text, 'installed'::text]))),
    CONSTRAINT lease_state_check CHECK ((state = ANY (ARRAY['offered'::text, 'active'::text, 'released'::text, 'declined'::text])))
);
COMMENT ON TABLE public.lease IS 'An address and the client that was offered it, holds it, held it last (released) or found it in use (declined: in quarantine until it expires). Written by the DHCP server''s calls, under the subnet''s row lock. delegated_by names an edge that answers for it.';
ALTER TABLE public.lease ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.lease_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.machine (
    id text NOT NULL,
    hostname text NOT NULL,
    project_id bigint DEFAULT 1 NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    approved boolean DEFAULT false NOT NULL,
    state text DEFAULT 'enrolled'::text NOT NULL,
    outcome text DEFAULT 'none'::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    state_since timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    deadline_at timestamp with time zone,
    wish_generation bigint DEFAULT 0 NOT NULL,
    boot_generation bigint DEFAULT 0 NOT NULL,
    operation_id text,
    architecture text DEFAULT ''::text NOT NULL,
    boot_mode text DEFAULT ''::text NOT NULL,
    uuid uuid,
    serial text DEFAULT ''::text NOT NULL,
    vendor text DEFAULT ''::text NOT NULL,
    product text DEFAULT ''::text NOT NULL,
    memory_bytes bigint DEFAULT 0 NOT NULL,
    cpu_threads bigint DEFAULT 0 NOT NULL,
    power_state text DEFAULT 'unknown'::text NOT NULL,
    warnings jsonb DEFAULT '[]'::jsonb NOT NULL,
    agent_online boolean DEFAULT false NOT NULL,
    agent_controller text DEFAULT ''::text NOT NULL,
    agent_stream bigint DEFAULT 0 NOT NULL,
    agent_seen_at timestamp with time zone,
    boot_id text DEFAULT ''::text NOT NULL,
    boot_seen_at timestamp with time zone,
    boot_seen_what text DEFAULT ''::text NOT NULL,
    report_sequence bigint DEFAULT 0 NOT NULL,
    event_sequence bigint DEFAULT 0 NOT NULL,
    event_xid xid8 DEFAULT '0'::xid8 NOT NULL,
    wake_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    lease_holder text DEFAULT ''::text NOT NULL,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    pool text DEFAULT 'default'::text NOT NULL,
    report_spent double precision DEFAULT 0 NOT NULL,
    report_spent_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    report_dropped bigint DEFAULT 0 NOT NULL,
    CONSTRAINT machine_agent CHECK (((NOT agent_online) OR (agent_controller <> ''::text))),
    CONSTRAINT machine_boot_generation_check CHECK ((boot_generation >= 0)),
    CONSTRAINT machine_boot_mode_check CHECK ((boot_mode = ANY (ARRAY[''::text, 'bios'::text, 'uefi'::text]))),
    CONSTRAINT machine_cpu_threads_check CHECK ((cpu_threads >= 0)),
    CONSTRAINT machine_deadline CHECK (((outcome <> 'running'::text) OR (deadline_at IS NOT NULL) OR (state <> ALL (ARRAY['commissioning'::text, 'deploying'::text, 'releasing'::text, 'erasing'::text])))),
    CONSTRAINT machine_event_sequence_check CHECK ((event_sequence >= 0)),
    CONSTRAINT machine_failure CHECK (((outcome <> 'failed'::text) OR (reason <> ''::text))),
    CONSTRAINT machine_hostname_check CHECK ((hostname ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)),
    CONSTRAINT machine_id_check CHECK ((id ~ '^[a-z0-9]{6}$'::text)),
    CONSTRAINT machine_lease CHECK (((lease_holder <> ''::text) = (lease_expires_at IS NOT NULL))),
    CONSTRAINT machine_lease_token_check CHECK ((lease_token >= 0)),
    CONSTRAINT machine_memory_bytes_check CHECK ((memory_bytes >= 0)),
    CONSTRAINT machine_outcome_check CHECK ((outcome = ANY (ARRAY['none'::text, 'running'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT machine_power_state_check CHECK ((power_state = ANY (ARRAY['unknown'::text, 'on'::text, 'off'::text]))),
    CONSTRAINT machine_report_dropped_check CHECK ((report_dropped >= 0)),
    CONSTRAINT machine_report_sequence_check CHECK ((report_sequence >= 0)),
    CONSTRAINT machine_report_spent_check CHECK ((report_spent >= (0)::double precision)),
    CONSTRAINT machine_state_check CHECK ((state = ANY (ARRAY['enrolled'::text, 'commissioning'::text, 'ready'::text, 'allocated'::text, 'deploying'::text, 'deployed'::text, 'releasing'::text, 'erasing'::text, 'broken'::text]))),
    CONSTRAINT machine_wish_generation_check CHECK ((wish_generation >= 0))
);
COMMENT ON TABLE public.machine IS 'One physical or virtual machine. State, outcome, reason and deadline are written by the lifecycle engine and its reaper; facts by the agent''s collections; presence by the controller that holds the agent''s stream; identity by the claim of a boot session.';
COMMENT ON COLUMN public.machine.report_sequence IS 'Last report of the current boot that is stored.';
COMMENT ON COLUMN public.machine.event_xid IS 'Highest xid given to an event of this machine; keeps the order of a watch across machines equal to the sequence of each.';
COMMENT ON COLUMN public.machine.wake_at IS 'When the engine looks next. A claim sets infinity, every nudge sets now: so a nudge during a turn is not lost.';
COMMENT ON COLUMN public.machine.lease_token IS 'Rises with each claim; a decision or an order with a lower one is refused.';
CREATE TABLE public.machine_order (
    id bigint NOT NULL,
    machine_id text NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    operation_id text NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    target text NOT NULL,
    wish_generation bigint NOT NULL,
    boot_generation bigint NOT NULL,
    lease_token bigint NOT NULL,
    cause text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    job_sealed bytea NOT NULL,
    result_sealed bytea,
    reason text DEFAULT ''::text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    audit_id bigint,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    delivered_at timestamp with time zone,
    finished_at timestamp with time zone,
    claim_holder text DEFAULT ''::text NOT NULL,
    claim_expires_at timestamp with time zone,
    CONSTRAINT machine_order_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT machine_order_audit CHECK (((target <> 'bmc'::text) OR (audit_id IS NOT NULL))),
    CONSTRAINT machine_order_boot CHECK (((target = 'bmc'::text) = (boot_generation = 0))),
    CONSTRAINT machine_order_boot_generation_check CHECK ((boot_generation >= 0)),
    CONSTRAINT machine_order_cause_check CHECK ((cause <> ''::text)),
    CONSTRAINT machine_order_end CHECK (((finished_at IS NOT NULL) OR (state <> ALL (ARRAY['succeeded'::text, 'failed'::text])))),
    CONSTRAINT machine_order_failure CHECK (((state <> 'failed'::text) OR (reason <> ''::text))),
    CONSTRAINT machine_order_lease_token_check CHECK ((lease_token > 0)),
    CONSTRAINT machine_order_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'succeeded'::text, 'failed'::text, 'superseded'::text]))),
    CONSTRAINT machine_order_step_check CHECK ((step <> ''::text)),
    CONSTRAINT machine_order_target_check CHECK ((target = ANY (ARRAY['agent'::text, 'bmc'::text]))),
    CONSTRAINT machine_order_wish_generation_check CHECK ((wish_generation > 0))
);
COMMENT ON TABLE public.machine_order IS 'One thing to be done outside the database, by the agent or through the BMC. Given by the lifecycle engine; delivered and finished by the controller that holds the stream or the claim. Job and result are sealed.';
ALTER TABLE public.machine_order ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.machine_order_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.nic (
    id bigint NOT NULL,
    machine_id text NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    hardware_addr bytea NOT NULL,
    mac macaddr,
    locally_administered boolean DEFAULT false NOT NULL,
    declared boolean DEFAULT false NOT NULL,
    present boolean DEFAULT true NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    speed_bits_per_second bigint DEFAULT 0 NOT NULL,
    link_up boolean DEFAULT false NOT NULL,
    driver text DEFAULT ''::text NOT NULL,
    boot_nic boolean DEFAULT false NOT NULL,
    neighbour text DEFAULT ''::text NOT NULL,
    CONSTRAINT nic_hardware_addr_check CHECK (((octet_length(hardware_addr) >= 6) AND (octet_length(hardware_addr) <= 20))),
    CONSTRAINT nic_mac CHECK (((octet_length(hardware_addr) = 6) = (mac IS NOT NULL)))
);
COMMENT ON TABLE public.nic IS 'One interface of a machine by its permanent address. Written by the claim of a boot session, by collections (ids survive) and by an operator who adds a machine (declared). A NIC that a collection misses stays, not present.';
ALTER TABLE public.nic ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.nic_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.operation (
    id text NOT NULL,
    machine_id text NOT NULL,
    project_id bigint DEFAULT 1 NOT NULL,
    kind text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    wish_generation bigint NOT NULL,
    wish_sealed bytea NOT NULL,
    image_digest text DEFAULT ''::text NOT NULL,
    report_token_sha256 bytea,
    phase text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    requested_by text NOT NULL,
    cancel_asked boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT operation_end CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text])))),
    CONSTRAINT operation_failure CHECK (((state <> 'failed'::text) OR (reason <> ''::text))),
    CONSTRAINT operation_id_check CHECK ((id ~ '^[a-z0-9-]{4,40}$'::text)),
    CONSTRAINT operation_image CHECK (((kind = 'deploy'::text) = (image_digest <> ''::text))),
    CONSTRAINT operation_kind_check CHECK ((kind = ANY (ARRAY['commission'::text, 'deploy'::text, 'release'::text, 'power'::text]))),
    CONSTRAINT operation_report_token_sha256_check CHECK ((octet_length(report_token_sha256) = 32)),
    CONSTRAINT operation_requested_by_check CHECK ((requested_by <> ''::text)),
    CONSTRAINT operation_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT operation_wish_generation_check CHECK ((wish_generation > 0))
);
COMMENT ON TABLE public.operation IS 'One wish and how far it is. Made by the operators'' API, brought forward by the lifecycle engine. What was asked is sealed: it holds user-data and tokens.';
CREATE TABLE public.pool (
    name text NOT NULL,
    require_signed_images boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT pool_name_check CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);
COMMENT ON TABLE public.pool IS 'Machines under one policy. Written by the operators'' API; the pool default is always there.';
CREATE TABLE public.project (
    id bigint NOT NULL,
    name text NOT NULL,
    CONSTRAINT project_name_check CHECK ((name <> ''::text))
);
COMMENT ON TABLE public.project IS 'A tenant. One default row; written by migrations until tenancy comes.';
ALTER TABLE public.project ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.project_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.pruning (
    one boolean DEFAULT true NOT NULL,
    holder text DEFAULT ''::text NOT NULL,
    claimed_until timestamp with time zone,
    next_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    event_xid xid8 DEFAULT '0'::xid8 NOT NULL,
    CONSTRAINT pruning_one_check CHECK (one)
);
COMMENT ON TABLE public.pruning IS 'One row: which controller forgets what is older than is kept, and when next. event_xid is the highest of events that were forgotten: a watch of all machines that would go on below it is refused. Written by the pruner.';
CREATE TABLE public.setting (
    key text NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT setting_key_check CHECK ((key <> ''::text))
);
COMMENT ON TABLE public.setting IS 'One setting of the whole installation. Written by the operators'' API.';
CREATE TABLE public.site (
    id bigint NOT NULL,
    name text NOT NULL,
    CONSTRAINT site_name_check CHECK ((name <> ''::text))
);
COMMENT ON TABLE public.site IS 'A place with its own segments. One default row; written by migrations until edge controllers come.';
ALTER TABLE public.site ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.site_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.step (
    operation_id text NOT NULL,
    name text NOT NULL,
    "position" bigint NOT NULL,
    state text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT step_end CHECK (((finished_at IS NOT NULL) = (state <> 'intended'::text))),
    CONSTRAINT step_name_check CHECK ((name <> ''::text)),
    CONSTRAINT step_state_check CHECK ((state = ANY (ARRAY['intended'::text, 'done'::text, 'failed'::text])))
);
COMMENT ON TABLE public.step IS 'One step of an operation: intended before its effect, done or failed after. Written by the lifecycle engine.';
ALTER TABLE public.step ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.step_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.subnet (
    id bigint NOT NULL,
    site_id bigint DEFAULT 1 NOT NULL,
    cidr cidr NOT NULL,
    gateway inet,
    dns inet[] DEFAULT '{}'::inet[] NOT NULL,
    ntp inet[] DEFAULT '{}'::inet[] NOT NULL,
    domain text DEFAULT ''::text NOT NULL
);
COMMENT ON TABLE public.subnet IS 'One CIDR and what its clients are told. Written from the controller''s configuration.';
ALTER TABLE public.subnet ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.subnet_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.test_result (
    id bigint NOT NULL,
    machine_id text NOT NULL,
    order_id bigint,
    boot_generation bigint NOT NULL,
    name text NOT NULL,
    subject text DEFAULT ''::text NOT NULL,
    outcome text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    elapsed_ns bigint DEFAULT 0 NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT test_result_name_check CHECK ((name <> ''::text)),
    CONSTRAINT test_result_outcome_check CHECK ((outcome = ANY (ARRAY['passed'::text, 'failed'::text, 'skipped'::text])))
);
COMMENT ON TABLE public.test_result IS 'One hardware test''s result, written with the report that brought it.';
ALTER TABLE public.test_result ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.test_result_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.token (
    id bigint NOT NULL,
    project_id bigint DEFAULT 1 NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    token_sha256 bytea NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    revoked_at timestamp with time zone,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT token_check CHECK ((expires_at > created_at)),
    CONSTRAINT token_name_check CHECK ((name <> ''::text)),
    CONSTRAINT token_prefix_check CHECK ((prefix <> ''::text)),
    CONSTRAINT token_token_sha256_check CHECK ((octet_length(token_sha256) = 32))
);
COMMENT ON TABLE public.token IS 'An operator''s API token: the SHA-256 of 256 random bits, never the token. Written by the operators'' API; the first one by the first controller that starts.';
COMMENT ON COLUMN public.token.last_used_at IS 'Kept to the minute: written by the check of a call when it is older.';
ALTER TABLE public.token ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.trusted_key (
    name text NOT NULL,
    key_id text NOT NULL,
    public_key text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.ingot_now() NOT NULL,
    CONSTRAINT trusted_key_created_by_check CHECK ((created_by <> ''::text)),
    CONSTRAINT trusted_key_key_id_check CHECK ((key_id ~ '^[0-9A-F]{16}$'::text)),
    CONSTRAINT trusted_key_name_check CHECK ((name <> ''::text)),
    CONSTRAINT trusted_key_public_key_check CHECK ((public_key <> ''::text))
);
COMMENT ON TABLE public.trusted_key IS 'A minisign public key whose signatures of images count. Written by the operators'' API, with an audit row for each change.';
ALTER TABLE ONLY public.agent_certificate
    ADD CONSTRAINT agent_certificate_pkey PRIMARY KEY (serial);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.authority
    ADD CONSTRAINT authority_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.bmc
    ADD CONSTRAINT bmc_pkey PRIMARY KEY (machine_id);
ALTER TABLE ONLY public.boot_session
    ADD CONSTRAINT boot_session_nonce_sha256_key UNIQUE (nonce_sha256);
ALTER TABLE ONLY public.boot_session
    ADD CONSTRAINT boot_session_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.collection
    ADD CONSTRAINT collection_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT controller_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.deployment
    ADD CONSTRAINT deployment_pkey PRIMARY KEY (operation_id);
ALTER TABLE ONLY public.disk_data
    ADD CONSTRAINT disk_data_once UNIQUE (identity, machine_id);
ALTER TABLE ONLY public.disk_data
    ADD CONSTRAINT disk_data_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.disk
    ADD CONSTRAINT disk_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.erase_receipt
    ADD CONSTRAINT erase_receipt_pkey PRIMARY KEY (operation_id, disk_serial, wwn);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (machine_id, sequence);
ALTER TABLE ONLY public.first_boot_report
    ADD CONSTRAINT first_boot_report_pkey PRIMARY KEY (operation_id);
ALTER TABLE ONLY public.held_clock
    ADD CONSTRAINT held_clock_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.image_copy
    ADD CONSTRAINT image_copy_pkey PRIMARY KEY (digest, controller_id);
ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY public.image_signature
    ADD CONSTRAINT image_signature_pkey PRIMARY KEY (digest, key_id);
ALTER TABLE ONLY public.ip_range
    ADD CONSTRAINT ip_range_dynamic EXCLUDE USING gist (box(point((subnet_id)::double precision, ((first - '0.0.0.0'::inet))::double precision), point((subnet_id)::double precision, ((last - '0.0.0.0'::inet))::double precision)) WITH &&) WHERE ((kind = 'dynamic'::text));
ALTER TABLE ONLY public.ip_range
    ADD CONSTRAINT ip_range_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.ip_range
    ADD CONSTRAINT ip_range_reserved EXCLUDE USING gist (box(point((subnet_id)::double precision, ((first - '0.0.0.0'::inet))::double precision), point((subnet_id)::double precision, ((last - '0.0.0.0'::inet))::double precision)) WITH &&) WHERE ((kind = 'reserved'::text));
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_hostname UNIQUE (site_id, hostname);
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_once UNIQUE (operation_id, step, attempt, target);
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.nic
    ADD CONSTRAINT nic_once UNIQUE (machine_id, hardware_addr);
ALTER TABLE ONLY public.nic
    ADD CONSTRAINT nic_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.operation
    ADD CONSTRAINT operation_generation UNIQUE (machine_id, wish_generation);
ALTER TABLE ONLY public.operation
    ADD CONSTRAINT operation_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_name_key UNIQUE (name);
ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pruning
    ADD CONSTRAINT pruning_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.site
    ADD CONSTRAINT site_name_key UNIQUE (name);
ALTER TABLE ONLY public.site
    ADD CONSTRAINT site_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.step
    ADD CONSTRAINT step_pkey PRIMARY KEY (operation_id, name);
ALTER TABLE ONLY public.subnet
    ADD CONSTRAINT subnet_once UNIQUE (site_id, cidr);
ALTER TABLE ONLY public.subnet
    ADD CONSTRAINT subnet_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.test_result
    ADD CONSTRAINT test_result_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_token_sha256_key UNIQUE (token_sha256);
ALTER TABLE ONLY public.trusted_key
    ADD CONSTRAINT trusted_key_id UNIQUE (key_id);
ALTER TABLE ONLY public.trusted_key
    ADD CONSTRAINT trusted_key_pkey PRIMARY KEY (name);
CREATE INDEX agent_certificate_expiry ON public.agent_certificate USING btree (expires_at);
CREATE INDEX agent_certificate_machine ON public.agent_certificate USING btree (machine_id, boot_generation);
CREATE INDEX audit_subject ON public.audit USING btree (subject, id);
CREATE UNIQUE INDEX bmc_url ON public.bmc USING btree (url) WHERE (url <> 'manual:'::text);
CREATE INDEX boot_session_expiry ON public.boot_session USING btree (expires_at);
CREATE INDEX boot_session_open ON public.boot_session USING btree (hardware_addr, opened_at DESC) WHERE (claimed_at IS NULL);
CREATE INDEX collection_machine ON public.collection USING btree (machine_id, id DESC);
CREATE UNIQUE INDEX deployment_current ON public.deployment USING btree (machine_id) WHERE is_current;
CREATE INDEX deployment_image ON public.deployment USING btree (image_digest) WHERE is_current;
CREATE INDEX disk_data_found ON public.disk_data USING btree (found_in);
CREATE INDEX disk_machine ON public.disk USING btree (machine_id);
CREATE INDEX erase_receipt_machine ON public.erase_receipt USING btree (machine_id);
CREATE INDEX event_watch ON public.event USING btree (xid, machine_id, sequence);
CREATE INDEX image_name ON public.image USING btree (name, architecture, created_at DESC);
CREATE INDEX lease_active_address ON public.lease USING btree (address) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX lease_address ON public.lease USING btree (subnet_id, address) WHERE (state <> 'released'::text);
CREATE UNIQUE INDEX lease_client ON public.lease USING btree (subnet_id, client_key) WHERE (state <> 'declined'::text);
CREATE INDEX lease_expiry ON public.lease USING btree (expires_at);
CREATE INDEX lease_hardware_addr ON public.lease USING btree (hardware_addr);
CREATE INDEX machine_agent_controller ON public.machine USING btree (agent_controller) WHERE agent_online;
CREATE INDEX machine_deadline ON public.machine USING btree (deadline_at) WHERE (deadline_at IS NOT NULL);
CREATE INDEX machine_lease_expiry ON public.machine USING btree (lease_expires_at) WHERE (lease_holder <> ''::text);
CREATE INDEX machine_order_audit ON public.machine_order USING btree (audit_id) WHERE (audit_id IS NOT NULL);
CREATE INDEX machine_order_bmc ON public.machine_order USING btree (machine_id, lease_token) WHERE (target = 'bmc'::text);
CREATE INDEX machine_order_claimed ON public.machine_order USING btree (machine_id) WHERE ((claim_holder <> ''::text) AND (finished_at IS NULL));
CREATE INDEX machine_order_finished ON public.machine_order USING btree (finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX machine_order_operation ON public.machine_order USING btree (operation_id, id);
CREATE INDEX machine_order_unfinished ON public.machine_order USING btree (machine_id, target, id) WHERE (state = ANY (ARRAY['pending'::text, 'delivered'::text]));
CREATE INDEX machine_pool ON public.machine USING btree (pool);
CREATE INDEX machine_uuid ON public.machine USING btree (uuid);
CREATE INDEX machine_wake ON public.machine USING btree (wake_at) WHERE (lease_holder = ''::text);
CREATE UNIQUE INDEX nic_declared ON public.nic USING btree (site_id, hardware_addr) WHERE declared;
CREATE INDEX nic_hardware_addr ON public.nic USING btree (hardware_addr);
CREATE UNIQUE INDEX nic_permanent ON public.nic USING btree (site_id, hardware_addr) WHERE (NOT locally_administered);
CREATE INDEX operation_created ON public.operation USING btree (created_at DESC, id);
CREATE INDEX operation_finished ON public.operation USING btree (finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX operation_image ON public.operation USING btree (image_digest) WHERE (state = ANY (ARRAY['pending'::text, 'running'::text]));
CREATE UNIQUE INDEX operation_report_token ON public.operation USING btree (report_token_sha256);
CREATE UNIQUE INDEX operation_request ON public.operation USING btree (machine_id, request_id) WHERE (request_id <> ''::text);
CREATE UNIQUE INDEX operation_under_way ON public.operation USING btree (machine_id) WHERE (state = ANY (ARRAY['pending'::text, 'running'::text]));
CREATE INDEX test_result_machine ON public.test_result USING btree (machine_id, id DESC);
CREATE UNIQUE INDEX token_name ON public.token USING btree (name) WHERE (revoked_at IS NULL);
ALTER TABLE ONLY public.agent_certificate
    ADD CONSTRAINT agent_certificate_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.bmc
    ADD CONSTRAINT bmc_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.boot_session
    ADD CONSTRAINT boot_session_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.boot_session
    ADD CONSTRAINT boot_session_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.collection
    ADD CONSTRAINT collection_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.controller
    ADD CONSTRAINT controller_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.deployment
    ADD CONSTRAINT deployment_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.deployment
    ADD CONSTRAINT deployment_operation_id_fkey FOREIGN KEY (operation_id) REFERENCES public.operation(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.disk
    ADD CONSTRAINT disk_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.first_boot_report
    ADD CONSTRAINT first_boot_report_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.first_boot_report
    ADD CONSTRAINT first_boot_report_operation_id_fkey FOREIGN KEY (operation_id) REFERENCES public.operation(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.image_copy
    ADD CONSTRAINT image_copy_digest_fkey FOREIGN KEY (digest) REFERENCES public.image(digest) ON DELETE CASCADE;
ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);
ALTER TABLE ONLY public.image_signature
    ADD CONSTRAINT image_signature_digest_fkey FOREIGN KEY (digest) REFERENCES public.image(digest) ON DELETE CASCADE;
ALTER TABLE ONLY public.ip_range
    ADD CONSTRAINT ip_range_subnet_id_fkey FOREIGN KEY (subnet_id) REFERENCES public.subnet(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_subnet_id_fkey FOREIGN KEY (subnet_id) REFERENCES public.subnet(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_operation FOREIGN KEY (operation_id) REFERENCES public.operation(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_audit_id_fkey FOREIGN KEY (audit_id) REFERENCES public.audit(id);
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_operation_id_fkey FOREIGN KEY (operation_id) REFERENCES public.operation(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.machine_order
    ADD CONSTRAINT machine_order_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(name);
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);
ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.nic
    ADD CONSTRAINT nic_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.nic
    ADD CONSTRAINT nic_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.operation
    ADD CONSTRAINT operation_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.operation
    ADD CONSTRAINT operation_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);
ALTER TABLE ONLY public.step
    ADD CONSTRAINT step_operation_id_fkey FOREIGN KEY (operation_id) REFERENCES public.operation(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.subnet
    ADD CONSTRAINT subnet_site_id_fkey FOREIGN KEY (site_id) REFERENCES public.site(id);
ALTER TABLE ONLY public.test_result
    ADD CONSTRAINT test_result_machine_id_fkey FOREIGN KEY (machine_id) REFERENCES public.machine(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.project(id);
