-- name: ImageRecord
INSERT INTO image (digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, private, in_service)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, true)
ON CONFLICT (digest) DO UPDATE SET in_service = true, private = image.private OR excluded.private
RETURNING name, version;

-- name: ImageCopyRecord
INSERT INTO image_copy (digest, controller_id) VALUES ($1, $2)
ON CONFLICT (digest, controller_id) DO UPDATE SET stored_at = ingot_now();

-- name: ImageCopyForget
DELETE FROM image_copy WHERE digest = $1 AND controller_id = $2;

-- name: ImageGet
SELECT digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, private,
    in_service, created_at, ARRAY(SELECT controller_id FROM image_copy c WHERE c.digest = i.digest ORDER BY controller_id)
FROM image i
WHERE digest = $1 AND in_service;

-- name: ImageNamed
SELECT digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, private,
    in_service, created_at, ARRAY(SELECT controller_id FROM image_copy c WHERE c.digest = i.digest ORDER BY controller_id)
FROM image i
WHERE name = $1 AND in_service
ORDER BY created_at DESC, digest
LIMIT $2;

-- name: ImageList
SELECT digest, name, version, architecture, kind, size_bytes, packed_size_bytes, sector_bytes, frame_bytes, kexec_allowed, private,
    in_service, created_at, ARRAY(SELECT controller_id FROM image_copy c WHERE c.digest = i.digest ORDER BY controller_id)
FROM image i
WHERE digest > $1 AND in_service AND ($3 = '' OR name = $3)
ORDER BY digest
LIMIT $2;

-- name: ImageSignatures
SELECT digest, key_id, signature FROM image_signature WHERE digest = ANY ($1) ORDER BY digest, key_id;

-- name: ImageUsers
SELECT digest, machine_id FROM (
    SELECT u.digest, u.machine_id, row_number() OVER (PARTITION BY u.digest ORDER BY u.machine_id) AS n
    FROM (
        SELECT image_digest AS digest, machine_id FROM deployment WHERE image_digest = ANY ($1) AND is_current
        UNION
        SELECT image_digest, machine_id FROM operation WHERE image_digest = ANY ($1) AND state IN ('pending', 'running')
    ) u
) numbered
WHERE n <= $2
ORDER BY digest, machine_id;

-- name: ImageSignatureCount
SELECT count(*) FROM image_signature WHERE digest = $1 AND key_id <> $2;

-- name: ImageSignaturePut
INSERT INTO image_signature (digest, key_id, signature, added_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (digest, key_id) DO UPDATE SET signature = excluded.signature, added_by = excluded.added_by, added_at = ingot_now();

-- name: ImageSignatureDelete
DELETE FROM image_signature WHERE digest = $1 AND key_id = $2;

-- name: ImageLock
SELECT digest FROM image WHERE digest = $1 FOR UPDATE;

-- name: ImageDelete
DELETE FROM image WHERE digest = $1;

-- name: AuthorityLock
LOCK TABLE authority IN SHARE ROW EXCLUSIVE MODE;

-- name: AuthorityGet
SELECT certificate, key_sealed FROM authority;

-- name: AuthorityInsert
INSERT INTO authority (certificate, key_sealed) VALUES ($1, $2);
