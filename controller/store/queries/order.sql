-- name: OrderByOperation
SELECT id, machine_id, operation_id, step, attempt, target, wish_generation, boot_generation, lease_token, cause, state,
    job_sealed, result_sealed, reason, detail, created_at, delivered_at, finished_at
FROM machine_order WHERE operation_id = ANY ($1) ORDER BY id;

-- name: OrderByID
SELECT id, machine_id, operation_id, step, attempt, target, wish_generation, boot_generation, lease_token, cause, state,
    job_sealed, result_sealed, reason, detail, created_at, delivered_at, finished_at
FROM machine_order WHERE id = $1;

-- name: OrderPendingForAgent
SELECT o.id, o.machine_id, o.operation_id, o.step, o.attempt, o.target, o.wish_generation, o.boot_generation, o.lease_token, o.cause, o.state,
    o.job_sealed, o.result_sealed, o.reason, o.detail, o.created_at, o.delivered_at, o.finished_at
FROM machine_order o
JOIN machine m ON m.id = o.machine_id AND m.boot_generation = o.boot_generation AND m.operation_id = o.operation_id AND m.approved
JOIN operation p ON p.id = o.operation_id AND p.state IN ('pending', 'running') AND p.wish_generation = o.wish_generation
WHERE o.machine_id = $1 AND o.boot_generation = $2 AND o.target = 'agent' AND o.state IN ('pending', 'delivered')
ORDER BY o.id;

-- name: OrderDelivered
UPDATE machine_order SET state = 'delivered', delivered_at = ingot_now() WHERE id = $1;

-- name: OrderClaimForBMC
SELECT o.id
FROM machine_order o
JOIN machine m ON m.id = o.machine_id AND m.operation_id = o.operation_id AND m.approved
JOIN operation p ON p.id = o.operation_id AND p.state IN ('pending', 'running') AND p.wish_generation = o.wish_generation
WHERE o.target = 'bmc'
    AND (o.state = 'pending' OR (o.state = 'delivered' AND o.claim_expires_at <= ingot_now()))
    -- The newest order of a machine's BMC fences the older ones.
    AND NOT EXISTS (SELECT 1 FROM machine_order newer
        WHERE newer.machine_id = o.machine_id AND newer.target = 'bmc' AND newer.lease_token > o.lease_token)
    -- One at a time for a BMC, whatever became of the order that is being carried out.
    AND NOT EXISTS (SELECT 1 FROM machine_order busy
        WHERE busy.machine_id = o.machine_id AND busy.target = 'bmc' AND busy.id <> o.id
            AND busy.claim_holder <> '' AND busy.finished_at IS NULL AND busy.claim_expires_at > ingot_now())
ORDER BY o.id
LIMIT 1
FOR UPDATE OF o, m SKIP LOCKED;

-- name: OrderClaim
UPDATE machine_order SET state = 'delivered', claim_holder = $2, claim_expires_at = ingot_now() + $3::interval, delivered_at = ingot_now()
WHERE id = $1;

-- name: OrderLockForFinish
SELECT machine_id, target, state, boot_generation, delivered_at, finished_at IS NOT NULL FROM machine_order WHERE id = $1
FOR UPDATE;

-- name: OrderFinish
UPDATE machine_order SET state = $2, result_sealed = $3, reason = $4, detail = $5, finished_at = ingot_now() WHERE id = $1;

-- name: OrderClaimEnd
UPDATE machine_order SET finished_at = ingot_now() WHERE id = $1 AND finished_at IS NULL;

-- name: OrderMachine
SELECT machine_id FROM machine_order WHERE id = $1;
