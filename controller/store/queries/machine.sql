-- name: MachineLoad
SELECT m.id, m.hostname, m.project_id, m.site_id, m.approved, m.state, m.outcome, m.reason, m.detail,
    m.state_since, m.deadline_at, m.wish_generation, m.boot_generation, m.lease_token, coalesce(m.operation_id, ''),
    m.architecture, m.boot_mode, coalesce(m.uuid::text, ''), m.serial, m.vendor, m.product, m.memory_bytes, m.cpu_threads,
    m.power_state, m.agent_online AND c.heartbeat_at > ingot_now() - interval '20 seconds', m.agent_seen_at,
    m.warnings, m.created_at, m.boot_seen_at, m.boot_seen_what, m.pool
FROM machine m LEFT JOIN controller c ON c.id = m.agent_controller
WHERE m.id = ANY ($1)
ORDER BY m.id;

-- name: MachineLoadNICs
SELECT n.machine_id, n.id, n.name, n.hardware_addr, n.locally_administered, n.speed_bits_per_second, n.link_up, n.driver,
    n.boot_nic, n.neighbour,
    coalesce((SELECT host(l.address) FROM lease l
        WHERE l.hardware_addr = n.hardware_addr AND l.state = 'active' AND l.expires_at > ingot_now()
        ORDER BY l.updated_at DESC LIMIT 1), '')
FROM nic n
WHERE n.machine_id = ANY ($1) AND n.present
ORDER BY n.machine_id, n.boot_nic DESC, n.id;

-- name: MachineLoadDisks
SELECT machine_id, id, name, serial, wwn, by_path, model, size_bytes, sector_bytes, kind, health, read_only, removable
FROM disk
WHERE machine_id = ANY ($1) AND present
ORDER BY machine_id, id;

-- name: MachineLoadBMCs
SELECT machine_id, url, user_name, certificate_sha256, vendor, model, firmware, last_error
FROM bmc
WHERE machine_id = ANY ($1);

-- name: MachineLoadDeployments
SELECT d.machine_id, d.operation_id, d.image_digest, d.image_name, d.disk_serial, d.instance_id, d.proof, r.at,
    d.boot_path, d.boot_path_detail, d.entered_by, d.loader_partition_guid, d.loader_path,
    d.bytes_fetched, d.bytes_written, d.flushed_after_ns, d.verified_after_ns, d.bytes_kept, d.bytes_from_peers
FROM deployment d LEFT JOIN first_boot_report r ON r.operation_id = d.operation_id
WHERE d.machine_id = ANY ($1) AND d.is_current;

-- name: MachineFind
SELECT id FROM machine WHERE id = $1
UNION
SELECT id FROM machine WHERE hostname = $1
UNION
SELECT machine_id FROM nic WHERE hardware_addr = $2
LIMIT 3;

-- name: MachineList
SELECT id FROM machine
WHERE id > $1
    AND ($2 = '' OR state = $2)
    AND ($3::boolean IS NULL OR approved = $3)
    AND ($4::bigint = 0 OR project_id = $4)
    AND ($5 = '' OR hostname LIKE $5)
    AND ($8 = '' OR pool = $8)
    AND (coalesce(octet_length($6::bytea), 0) = 0 OR EXISTS (SELECT 1 FROM nic n WHERE n.machine_id = machine.id AND n.hardware_addr = $6))
ORDER BY id
LIMIT $7;

-- name: MachineLock
SELECT id, approved, state, outcome, reason, detail, deadline_at, wish_generation, boot_generation, lease_token, lease_holder,
    coalesce(operation_id, ''), report_sequence, boot_id, coalesce(uuid::text, ''), serial, site_id, hostname, agent_stream, agent_controller
FROM machine WHERE id = $1
FOR UPDATE;

-- name: MachineInsert
INSERT INTO machine (id, hostname, approved, uuid, architecture, pool)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: MachineApprove
UPDATE machine SET approved = true, hostname = CASE WHEN $2 = '' THEN hostname ELSE $2 END,
    wake_at = least(wake_at, ingot_now())
WHERE id = $1;

-- name: MachineDelete
DELETE FROM machine WHERE id = $1;

-- name: MachineNudge
UPDATE machine SET wake_at = least(wake_at, ingot_now()) WHERE id = $1;

-- name: MachineUnapprovedCount
SELECT count(*) FROM machine WHERE NOT approved;

-- name: MachineWarningsSet
UPDATE machine SET warnings = $2 WHERE id = $1;

-- name: MachineWarnings
SELECT warnings FROM machine WHERE id = $1;

-- name: NICDeclare
INSERT INTO nic (machine_id, hardware_addr, mac, locally_administered, declared)
VALUES ($1, $2, $3, $4, true);

-- name: BMCSet
INSERT INTO bmc (machine_id, url, user_name, password_sealed, certificate_sha256)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (machine_id) DO UPDATE SET url = excluded.url, user_name = excluded.user_name,
    password_sealed = excluded.password_sealed, certificate_sha256 = excluded.certificate_sha256,
    last_error = '';

-- name: BMCAccess
SELECT url, user_name, password_sealed, certificate_sha256, vendor, model, firmware, last_error
FROM bmc WHERE machine_id = $1;

-- name: BMCSeen
UPDATE bmc SET
    certificate_sha256 = CASE WHEN certificate_sha256 = '' THEN $2 ELSE certificate_sha256 END,
    vendor = CASE WHEN $3 = '' THEN vendor ELSE $3 END,
    model = CASE WHEN $4 = '' THEN model ELSE $4 END,
    firmware = CASE WHEN $5 = '' THEN firmware ELSE $5 END,
    last_error = $6, seen_at = ingot_now()
WHERE machine_id = $1 AND url = $7;

-- name: PowerSet
UPDATE machine SET power_state = $2 WHERE id = $1;

-- name: NICKnown
SELECT EXISTS (SELECT 1 FROM nic WHERE hardware_addr = $1 AND machine_id <> $2);
