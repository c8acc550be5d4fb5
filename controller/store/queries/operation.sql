-- name: OperationByID
SELECT id, machine_id, kind, state, wish_generation, wish_sealed, phase, reason, detail, request_id, requested_by, cancel_asked,
    created_at, finished_at
FROM operation WHERE id = ANY ($1) ORDER BY id;

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
