-- name: EventSequence
UPDATE machine SET event_sequence = event_sequence + $2, event_xid = greatest(event_xid, pg_current_xact_id())
WHERE id = $1
RETURNING event_sequence - $2, event_xid;

-- name: EventInsert
INSERT INTO event (machine_id, sequence, kind, text, detail, xid)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: EventList
SELECT machine_id, sequence, at, kind, text, detail, xid, (SELECT event_xid FROM pruning)
FROM event
WHERE machine_id = $1 AND sequence > $2
ORDER BY sequence
LIMIT $3;

-- name: EventAfter
SELECT machine_id, sequence, at, kind, text, detail, xid, (SELECT event_xid FROM pruning)
FROM event
WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
    AND (xid, machine_id, sequence) > ($1::xid8, $2, $3)
    AND ($4 = '' OR machine_id = $4)
ORDER BY xid, machine_id, sequence
LIMIT $5;

-- name: EventNow
SELECT pg_snapshot_xmin(pg_current_snapshot());

-- name: EventNowOf
SELECT last FROM (
    SELECT coalesce((SELECT event_sequence FROM machine WHERE id = $1), (SELECT max(sequence) FROM event WHERE machine_id = $1)) AS last
) history WHERE last IS NOT NULL;

-- name: EventAny
SELECT EXISTS (SELECT 1 FROM event WHERE machine_id = $1);

-- name: AuditInsert
INSERT INTO audit (actor, action, subject, detail) VALUES ($1, $2, $3, $4) RETURNING id;

-- name: AuditList
SELECT id, at, actor, action, subject, detail FROM audit
WHERE id > $1 AND ($2 = '' OR subject = $2)
ORDER BY id
LIMIT $3;
