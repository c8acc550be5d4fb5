-- name: ControllerPlace
UPDATE controller SET addresses = $2, boot_port = $3, report_port = $4, api_urls = $5 WHERE id = $1;

-- name: ImageCopyPlaces
SELECT c.id, c.addresses, c.boot_port, c.report_port, c.api_urls
FROM image_copy k
JOIN controller c ON c.id = k.controller_id AND c.heartbeat_at > ingot_now() - interval '20 seconds'
JOIN image i ON i.digest = k.digest AND i.in_service
WHERE k.digest = $1 AND k.controller_id <> $2
ORDER BY k.pulled, c.id
LIMIT 8;

-- name: ImageCopyKeep
INSERT INTO image_copy (digest, controller_id, pulled)
SELECT digest, $2, true FROM image WHERE digest = $1 AND in_service
ON CONFLICT (digest, controller_id) DO UPDATE SET stored_at = ingot_now();

-- name: ImageCopyDrop
DELETE FROM image_copy k
WHERE k.digest = $1 AND k.controller_id = $2 AND k.pulled AND EXISTS
    (SELECT 1 FROM image_copy other
    JOIN controller c ON c.id = other.controller_id AND c.heartbeat_at > ingot_now() - interval '1 minute'
    WHERE other.digest = k.digest AND other.controller_id <> k.controller_id);

-- name: ImageCopiesPulled
SELECT digest FROM image_copy WHERE controller_id = $1 AND pulled ORDER BY digest;

-- name: ImagePrivate
SELECT private FROM image WHERE digest = $1;

-- name: ImageGrant
SELECT CASE
        WHEN NOT m.approved THEN 'the machine is not approved'
        WHEN o.boot_generation <> $3 OR m.boot_generation <> $3 THEN 'it is of another boot of the machine'
        WHEN p.image_digest <> $4 THEN 'it is of a deploy of another image'
        WHEN p.cancel_asked THEN 'its deploy is being cancelled'
        WHEN o.state NOT IN ('pending', 'delivered') OR p.state NOT IN ('pending', 'running') OR m.operation_id IS DISTINCT FROM p.id
            OR p.wish_generation <> o.wish_generation THEN 'its deploy has ended'
        ELSE '' END,
    coalesce(i.private, true), p.project_id || '/' || p.requested_by
FROM machine_order o
JOIN machine m ON m.id = o.machine_id
JOIN operation p ON p.id = o.operation_id
LEFT JOIN image i ON i.digest = $4
WHERE o.id = $2 AND o.machine_id = $1 AND o.target = 'agent';
