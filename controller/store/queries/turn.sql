-- name: TurnClaim
UPDATE machine SET lease_holder = $1, lease_token = lease_token + 1, lease_expires_at = ingot_now() + $2::interval, wake_at = 'infinity'
WHERE id IN (
    SELECT id FROM machine
    WHERE (lease_holder = '' AND wake_at <= ingot_now()) OR (lease_holder <> '' AND lease_expires_at <= ingot_now())
    ORDER BY wake_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED)
RETURNING id;

-- name: TurnSaveMachine
UPDATE machine SET
    state = $2, outcome = $3, reason = $4, detail = $5,
    state_since = CASE WHEN state <> $2 THEN ingot_now() ELSE state_since END,
    deadline_at = CASE WHEN $6::interval IS NULL THEN NULL WHEN $7 THEN ingot_now() + $6::interval ELSE deadline_at END,
    power_state = CASE WHEN $8 = '' THEN power_state ELSE $8 END,
    wake_at = least(wake_at, coalesce($9, ingot_now())),
    lease_holder = '', lease_expires_at = NULL
WHERE id = $1;

-- name: TurnDrop
UPDATE machine SET wake_at = ingot_now(), lease_holder = '', lease_expires_at = NULL
WHERE id = $1 AND lease_token = $2;

-- name: TurnSaveOperation
UPDATE operation SET state = $2, phase = CASE WHEN $3 = '' THEN phase ELSE $3 END, reason = $4, detail = $5,
    finished_at = CASE WHEN $6 THEN ingot_now() END
WHERE id = $1 AND state IN ('pending', 'running');

-- name: TurnSaveStep
INSERT INTO step (operation_id, name, state, detail, started_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (operation_id, name) DO UPDATE SET state = excluded.state, detail = excluded.detail, finished_at = excluded.finished_at;

-- name: TurnSupersedeOlder
UPDATE machine_order SET state = 'superseded'
WHERE machine_id = $1 AND target = $2 AND lease_token < $3 AND state IN ('pending', 'delivered');

-- name: TurnWithdraw
UPDATE machine_order SET state = 'superseded'
WHERE machine_id = $1 AND id = ANY ($2) AND (state = 'pending' OR (state = 'delivered' AND claim_expires_at <= ingot_now()));

-- name: TurnOrderKnown
SELECT EXISTS (SELECT 1 FROM machine_order WHERE operation_id = $1 AND step = $2 AND attempt = $3 AND target = $4);

-- name: TurnOrderID
SELECT nextval(pg_get_serial_sequence('machine_order', 'id'));

-- name: TurnOrderInsert
INSERT INTO machine_order (id, machine_id, operation_id, step, attempt, target, wish_generation, boot_generation, lease_token,
    cause, job_sealed, audit_id)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: TurnDeploymentRetire
UPDATE deployment SET is_current = false WHERE machine_id = $1 AND is_current AND operation_id <> $2;

-- name: TurnDeploymentPut
INSERT INTO deployment (operation_id, machine_id, image_digest, image_name, disk_serial, instance_id, proof, boot_path, boot_path_detail,
    entered_by, loader_partition_guid, loader_path, bytes_fetched, bytes_written, flushed_after_ns, verified_after_ns,
    bytes_kept, bytes_from_peers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (operation_id) DO UPDATE SET is_current = true, image_digest = excluded.image_digest, image_name = excluded.image_name,
    disk_serial = excluded.disk_serial, instance_id = excluded.instance_id, proof = excluded.proof,
    boot_path = excluded.boot_path, boot_path_detail = excluded.boot_path_detail, entered_by = excluded.entered_by,
    loader_partition_guid = excluded.loader_partition_guid, loader_path = excluded.loader_path,
    bytes_fetched = excluded.bytes_fetched, bytes_written = excluded.bytes_written,
    flushed_after_ns = excluded.flushed_after_ns, verified_after_ns = excluded.verified_after_ns,
    bytes_kept = excluded.bytes_kept, bytes_from_peers = excluded.bytes_from_peers;

-- name: TurnReceiptInsert
INSERT INTO erase_receipt (operation_id, machine_id, disk_serial, disk_model, wwn, size_bytes, method, started_at, ended_at,
    verified_bytes, verified, does_not_prove)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (operation_id, disk_serial, wwn) DO NOTHING;

-- name: MachineOverdue
SELECT id FROM machine WHERE deadline_at < ingot_now() ORDER BY deadline_at LIMIT 100;

-- name: MachineTimeoutLook
SELECT deadline_at < ingot_now() FROM machine WHERE id = $1 AND deadline_at IS NOT NULL;

-- name: MachineTimeout
UPDATE machine SET outcome = 'failed', reason = $2, detail = $3, deadline_at = NULL,
    lease_token = lease_token + 1, lease_holder = '', lease_expires_at = NULL, wake_at = ingot_now()
WHERE id = $1;

-- name: ReceiptList
SELECT operation_id, disk_serial, disk_model, wwn, size_bytes, method, started_at, ended_at, verified_bytes, verified, does_not_prove
FROM erase_receipt WHERE machine_id = $1 ORDER BY ended_at, operation_id, disk_serial;
