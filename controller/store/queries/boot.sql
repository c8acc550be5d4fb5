-- name: BootMatch
SELECT n.machine_id, coalesce(m.uuid::text, '')
FROM nic n JOIN machine m ON m.id = n.machine_id
WHERE n.hardware_addr = $1
LIMIT 10;

-- name: BootMatchUUID
SELECT id FROM machine WHERE uuid = ANY ($1::uuid[]) LIMIT 2;

-- name: BootSeen
UPDATE machine SET boot_seen_at = ingot_now(), boot_seen_what = $2 WHERE id = $1;

-- name: BootMatchAddress
SELECT n.machine_id FROM lease l JOIN nic n ON n.hardware_addr = l.hardware_addr
WHERE l.address = $1 AND l.state = 'active' AND l.expires_at > ingot_now()
LIMIT 2;
