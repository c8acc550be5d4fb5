-- name: PoolList
SELECT p.name, p.require_signed_images, p.created_at, (SELECT count(*) FROM machine m WHERE m.pool = p.name)
FROM pool p
WHERE $1 = '' OR p.name = $1
ORDER BY p.name
LIMIT 1000;

-- name: PoolInsert
INSERT INTO pool (name, require_signed_images) VALUES ($1, $2);

-- name: PoolCount
SELECT count(*) FROM pool;

-- name: PoolSet
UPDATE pool SET require_signed_images = coalesce($2, require_signed_images) WHERE name = $1;

-- name: PoolDelete
DELETE FROM pool WHERE name = $1;

-- name: PoolLock
SELECT name FROM pool WHERE name = $1 FOR UPDATE;

-- name: PoolThere
SELECT name FROM pool WHERE name = $1 FOR KEY SHARE;

-- name: PoolMachines
SELECT id FROM machine WHERE pool = $1 ORDER BY id LIMIT 6;

-- name: MachinePoolSet
UPDATE machine SET pool = $2 WHERE id = $1;

-- name: TrustedKeyList
SELECT name, key_id, public_key, created_by, created_at FROM trusted_key ORDER BY name;

-- name: TrustedKeyTableLock
LOCK TABLE trusted_key IN SHARE ROW EXCLUSIVE MODE;

-- name: TrustedKeyCount
SELECT count(*) FROM trusted_key;

-- name: TrustedKeyInsert
INSERT INTO trusted_key (name, key_id, public_key, created_by) VALUES ($1, $2, $3, $4);

-- name: TrustedKeyDelete
DELETE FROM trusted_key WHERE name = $1 RETURNING key_id;
