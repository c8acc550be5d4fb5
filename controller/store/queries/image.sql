-- name: ImageRecord
INSERT INTO image (digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, in_service)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true)
ON CONFLICT (digest) DO UPDATE SET in_service = true;

-- name: ImageCopyRecord
INSERT INTO image_copy (digest, controller_id) VALUES ($1, $2)
ON CONFLICT (digest, controller_id) DO UPDATE SET stored_at = ingot_now();

-- name: ImageCopyForget
DELETE FROM image_copy WHERE digest = $1 AND controller_id = $2;

-- name: ImageGet
SELECT digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, in_service,
    created_at, ARRAY(SELECT controller_id FROM image_copy c WHERE c.digest = i.digest ORDER BY controller_id)
FROM image i
WHERE in_service AND (digest = $1 OR name = $1)
ORDER BY digest = $1 DESC, created_at DESC, digest
LIMIT 1;

-- name: ImageList
SELECT digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, in_service,
    created_at, ARRAY(SELECT controller_id FROM image_copy c WHERE c.digest = i.digest ORDER BY controller_id)
FROM image i
WHERE digest > $1 AND in_service
ORDER BY digest
LIMIT $2;

-- name: ImageLock
SELECT digest FROM image WHERE digest = $1 FOR UPDATE;

-- name: ImageInUse
SELECT machine_id FROM deployment WHERE image_digest = $1 AND is_current
UNION
SELECT machine_id FROM operation WHERE image_digest = $1 AND state IN ('pending', 'running')
LIMIT 1;

-- name: ImageDelete
DELETE FROM image WHERE digest = $1;

-- name: TokenInsert
INSERT INTO token (name, prefix, token_sha256, created_by) VALUES ($1, $2, $3, $4);

-- name: TokenCheck
SELECT name FROM token WHERE token_sha256 = $1 AND revoked_at IS NULL;

-- name: TokenTableLock
LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE;

-- name: TokenAny
SELECT EXISTS (SELECT 1 FROM token);

-- name: TokenRevoke
UPDATE token SET revoked_at = ingot_now() WHERE name = $1 AND revoked_at IS NULL;

-- name: TokenList
SELECT name, prefix, created_by, created_at, revoked_at FROM token ORDER BY id;

-- name: AuthorityLock
LOCK TABLE authority IN SHARE ROW EXCLUSIVE MODE;

-- name: AuthorityGet
SELECT certificate, key_sealed FROM authority;

-- name: AuthorityInsert
INSERT INTO authority (certificate, key_sealed) VALUES ($1, $2);

-- name: SettingGet
SELECT value FROM setting WHERE key = $1;

-- name: SettingSet
INSERT INTO setting (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = ingot_now();
