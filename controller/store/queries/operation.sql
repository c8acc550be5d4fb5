-- name: OperationByID
SELECT id, machine_id, kind, state, wish_generation, wish_sealed, phase, reason, detail, request_id, requested_by, cancel_asked,
    created_at, finished_at
FROM operation WHERE id = ANY ($1) ORDER BY id;

-- name: OperationDeployments
SELECT d.machine_id, d.operation_id, d.image_digest, d.image_name, d.disk_serial, d.instance_id, d.proof, r.at,
    d.boot_path, d.boot_path_detail, d.entered_by, d.loader_partition_guid, d.loader_path,
    d.bytes_fetched, d.bytes_written, d.flushed_after_ns, d.verified_after_ns, d.bytes_kept, d.bytes_from_peers
FROM deployment d LEFT JOIN first_boot_report r ON r.operation_id = d.operation_id
WHERE d.operation_id = ANY ($1);

-- name: OperationSteps
SELECT operation_id, name, state, detail, started_at, finished_at FROM step WHERE operation_id = ANY ($1) ORDER BY operation_id, position;

-- name: OperationByRequest
SELECT id, kind FROM operation WHERE machine_id = $1 AND request_id = $2;

-- name: OperationInsert
INSERT INTO operation (id, machine_id, kind, wish_generation, wish_sealed, image_digest, report_token_sha256, request_id, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: OperationBegin
UPDATE machine SET wish_generation = $2, operation_id = $3, wake_at = least(wake_at, ingot_now()) WHERE id = $1;

-- name: OperationMachine
SELECT machine_id FROM operation WHERE id = $1;

-- name: OperationCancel
UPDATE operation SET cancel_asked = true WHERE id = $1;

-- name: OperationStop
UPDATE operation SET state = $2, reason = $3, detail = $4, finished_at = ingot_now()
WHERE id = $1 AND state IN ('pending', 'running');

-- name: OperationSupersedeOrders
UPDATE machine_order SET state = 'superseded' WHERE operation_id = $1 AND state IN ('pending', 'delivered');

-- name: OperationList
SELECT id FROM operation
WHERE ($1 = '' OR machine_id = $1)
    AND ($2 = '' OR (created_at, id) < (SELECT created_at, id FROM operation WHERE id = $2))
ORDER BY created_at DESC, id DESC
LIMIT $3;

-- name: OperationImageInService
SELECT in_service FROM image WHERE digest = $1 FOR KEY SHARE;
