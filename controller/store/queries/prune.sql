-- name: PruneClaim
UPDATE pruning SET holder = $1, claimed_until = ingot_now() + interval '2 minutes'
WHERE (holder = '' OR claimed_until <= ingot_now()) AND next_at <= ingot_now();

-- name: PruneHold
UPDATE pruning SET claimed_until = ingot_now() + interval '2 minutes' WHERE holder = $1;

-- name: PruneDone
UPDATE pruning SET holder = '', claimed_until = NULL, next_at = ingot_now() + interval '1 hour' WHERE holder = $1;

-- name: PruneEventXid
SELECT event_xid FROM pruning;

-- name: PruneMachines
-- The machines after $1 that have a history, deleted ones too: one step in the index each.
WITH RECURSIVE known AS (
    (SELECT machine_id FROM event WHERE machine_id > $1 ORDER BY machine_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.machine_id FROM event e WHERE e.machine_id > k.machine_id ORDER BY e.machine_id LIMIT 1)
    FROM known k WHERE k.machine_id IS NOT NULL
)
SELECT machine_id FROM known WHERE machine_id IS NOT NULL LIMIT $2;

-- name: PruneEvents
-- The oldest of a machine's events, without a gap, up to the first that is kept.
WITH old AS (
    SELECT sequence, at FROM event WHERE machine_id = $1 ORDER BY sequence LIMIT $2
), last AS (
    SELECT coalesce((SELECT event_sequence FROM machine WHERE id = $1), 9000000000000000000) AS sequence,
        EXISTS (SELECT 1 FROM machine WHERE id = $1) AS there
), stop AS (
    SELECT min(o.sequence) AS sequence FROM old o, last l
    WHERE NOT (($3::interval IS NOT NULL AND o.at < ingot_now() - $3::interval) OR (l.there AND $4::bigint > 0 AND o.sequence <= l.sequence - $4::bigint))
        OR (l.there AND o.sequence > l.sequence - $5::bigint)
), gone AS (
    DELETE FROM event e USING old o, stop s
    WHERE e.machine_id = $1 AND e.sequence = o.sequence AND (s.sequence IS NULL OR o.sequence < s.sequence)
    RETURNING e.xid
), told AS (
    UPDATE pruning SET event_xid = greatest(event_xid, (SELECT xid FROM gone ORDER BY xid DESC LIMIT 1))
    WHERE EXISTS (SELECT 1 FROM gone)
)
SELECT count(*) FROM gone;

-- name: PruneTests
WITH old AS (
    SELECT id, at FROM test_result WHERE machine_id = $1 ORDER BY id LIMIT $2
), kept AS (
    SELECT id FROM test_result WHERE machine_id = $1 ORDER BY id DESC OFFSET greatest($4::bigint - 1, 0) LIMIT 1
)
DELETE FROM test_result t USING old o
WHERE t.id = o.id AND (($3::interval IS NOT NULL AND o.at < ingot_now() - $3::interval) OR ($4::bigint > 0 AND o.id < (SELECT id FROM kept)));

-- name: PruneOrders
DELETE FROM machine_order WHERE id IN (
    SELECT o.id FROM machine_order o JOIN operation p ON p.id = o.operation_id
    WHERE o.finished_at < ingot_now() - $2::interval AND p.finished_at < ingot_now() - $2::interval
    ORDER BY o.finished_at LIMIT $1);

-- name: PruneOperations
-- Not a machine's last one, nor what its disk holds; the rest goes with its steps and orders.
DELETE FROM operation WHERE id IN (
    SELECT p.id FROM operation p
    WHERE p.finished_at < ingot_now() - $2::interval
        AND NOT EXISTS (SELECT 1 FROM machine m WHERE m.operation_id = p.id)
        AND NOT EXISTS (SELECT 1 FROM deployment d WHERE d.operation_id = p.id AND d.is_current)
        AND NOT EXISTS (SELECT 1 FROM disk_data t WHERE t.operation_id = p.id)
    ORDER BY p.finished_at LIMIT $1);

-- name: PruneSessions
DELETE FROM boot_session WHERE id IN
    (SELECT id FROM boot_session WHERE expires_at < ingot_now() - $2::interval ORDER BY expires_at LIMIT $1);

-- name: PruneCertificates
DELETE FROM agent_certificate WHERE serial IN
    (SELECT serial FROM agent_certificate WHERE expires_at < ingot_now() - $2::interval ORDER BY expires_at LIMIT $1);

-- name: PruneLeases
DELETE FROM lease WHERE expires_at < ingot_now() - $2::interval AND id IN
    (SELECT id FROM lease WHERE expires_at < ingot_now() - $2::interval ORDER BY expires_at LIMIT $1);

-- name: PruneAudit
DELETE FROM audit a USING (SELECT id, at FROM audit ORDER BY id LIMIT $1) o
WHERE a.id = o.id AND o.at < ingot_now() - $2::interval AND NOT EXISTS (SELECT 1 FROM machine_order r WHERE r.audit_id = a.id);
