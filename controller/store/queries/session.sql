-- name: SessionLock
SELECT pg_advisory_xact_lock(hashtextextended('boot session ' || encode($1, 'hex'), 0));

-- name: SessionForget
DELETE FROM boot_session WHERE id IN
    (SELECT id FROM boot_session WHERE expires_at < ingot_now() - interval '1 day' ORDER BY expires_at LIMIT 20);

-- name: SessionFindOpen
SELECT id, salt, nonce_sha256, expires_at FROM boot_session
WHERE hardware_addr = $1 AND claimed_at IS NULL AND expires_at > ingot_now() + interval '3 minutes'
ORDER BY opened_at DESC
LIMIT 1;

-- name: SessionNextID
SELECT nextval(pg_get_serial_sequence('boot_session', 'id'));

-- name: SessionInsert
INSERT INTO boot_session (id, salt, nonce_sha256, hardware_addr, uuid, architecture, boot_mode, interface, expires_at)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, ingot_now() + interval '15 minutes')
RETURNING expires_at;

-- name: SessionByNonce
SELECT id, hardware_addr, expires_at <= ingot_now(), claimed_key_sha256, coalesce(machine_id, ''), coalesce(boot_generation, 0)
FROM boot_session WHERE nonce_sha256 = $1
FOR UPDATE;

-- name: SessionClaim
UPDATE boot_session SET claimed_at = ingot_now(), claimed_key_sha256 = $2, machine_id = $3, boot_generation = $4
WHERE id = $1;

-- name: SessionMatchMAC
SELECT n.machine_id, bool_or(n.hardware_addr = $2) AS booted
FROM nic n
WHERE (n.hardware_addr = ANY ($1) AND NOT n.locally_administered) OR (n.hardware_addr = $2 AND n.declared)
GROUP BY n.machine_id
ORDER BY booted DESC, n.machine_id;

-- name: SessionMatchUUID
SELECT m.id, EXISTS (SELECT 1 FROM nic n WHERE n.machine_id = m.id AND NOT n.locally_administered)
FROM machine m
WHERE m.uuid = ANY ($1::uuid[])
ORDER BY m.id;

-- name: SessionNewBoot
UPDATE machine SET boot_generation = boot_generation + 1, report_sequence = 0, boot_id = $2, agent_online = false,
    boot_mode = CASE WHEN $3 = '' THEN boot_mode ELSE $3 END,
    uuid = coalesce(uuid, $4), serial = CASE WHEN serial = '' THEN $5 ELSE serial END,
    wake_at = least(wake_at, ingot_now())
WHERE id = $1
RETURNING boot_generation, hostname;

-- name: SessionSupersedeOrders
UPDATE machine_order SET state = 'superseded'
WHERE machine_id = $1 AND target = 'agent' AND state IN ('pending', 'delivered') AND boot_generation < $2;

-- name: SessionBreakMachine
UPDATE machine SET state = 'broken', outcome = 'failed', reason = $2, detail = $3, state_since = ingot_now(), deadline_at = NULL,
    boot_generation = boot_generation + 1, report_sequence = 0, agent_online = false,
    lease_token = lease_token + 1, lease_holder = '', lease_expires_at = NULL, wake_at = ingot_now()
WHERE id = $1;

-- name: CertificateRecord
INSERT INTO agent_certificate (serial, machine_id, boot_generation, key_sha256, expires_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (serial) DO NOTHING;

-- name: CertificateCheck
SELECT m.boot_generation, EXISTS (SELECT 1 FROM agent_certificate c
    WHERE c.machine_id = m.id AND c.boot_generation = $2 AND c.key_sha256 = $3 AND c.revoked_at IS NULL)
FROM machine m WHERE m.id = $1;

-- name: NICSeen
INSERT INTO nic (machine_id, site_id, hardware_addr, mac, locally_administered, boot_nic)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (machine_id, hardware_addr) DO UPDATE SET present = true, boot_nic = excluded.boot_nic;

-- name: NICTakeOver
DELETE FROM nic WHERE hardware_addr = $2 AND machine_id <> $1 AND NOT locally_administered
    -- A machine that nobody approved takes nothing from one that somebody did.
    AND ((SELECT approved FROM machine WHERE id = $1) OR NOT (SELECT approved FROM machine o WHERE o.id = nic.machine_id));

-- name: NICPermanentElsewhere
SELECT EXISTS (SELECT 1 FROM nic WHERE hardware_addr = $2 AND machine_id <> $1 AND NOT locally_administered);

-- name: NICBootClear
UPDATE nic SET boot_nic = false WHERE machine_id = $1 AND boot_nic;

-- name: SessionAgentHere
SELECT EXISTS (SELECT 1 FROM nic n JOIN machine m ON m.id = n.machine_id JOIN controller c ON c.id = m.agent_controller
WHERE n.hardware_addr = $1 AND NOT n.locally_administered AND m.approved AND m.agent_online
    AND c.heartbeat_at > ingot_now() - interval '20 seconds');
