-- +goose Up

-- What a disk is known by wherever it is put: its serial, else its WWN; without
-- either only its place in one machine.
ALTER TABLE disk ADD COLUMN identity text NOT NULL GENERATED ALWAYS AS (
    CASE WHEN serial <> '' THEN 's ' || serial WHEN wwn <> '' THEN 'w ' || wwn ELSE 'p ' || machine_id || ' ' || by_path END) STORED;

CREATE TABLE disk_data (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identity     text NOT NULL CHECK (identity <> ''),
    machine_id   text NOT NULL,
    found_in     text NOT NULL,
    serial       text NOT NULL DEFAULT '',
    wwn          text NOT NULL DEFAULT '',
    model        text NOT NULL DEFAULT '',
    size_bytes   bigint NOT NULL DEFAULT 0,
    operation_id text NOT NULL,
    written      boolean NOT NULL,
    since        timestamptz NOT NULL DEFAULT ingot_now(),
    CONSTRAINT disk_data_once UNIQUE (identity, machine_id)
);
COMMENT ON TABLE disk_data IS 'A disk that may hold what an owner left: an image was ordered onto it (written), or an installed system of its machine could write to it. Written before the order is sent; gone with a verified erase receipt or an operator''s word. It names machines (where it was written; where the disk was found last) without depending on them: a disk outlives a machine that is deleted.';
CREATE INDEX disk_data_found ON disk_data (found_in);

CREATE VIEW disk_holding AS
SELECT d.id AS disk_id, d.machine_id, d.present, t.id AS data_id, t.machine_id AS written_in, t.operation_id, t.written, t.since
FROM disk d
JOIN disk_data t ON t.identity = d.identity
    AND (t.machine_id = d.machine_id OR (t.model = d.model AND t.size_bytes = d.size_bytes))
    AND (t.wwn = '' OR d.wwn = '' OR t.wwn = d.wwn);
COMMENT ON VIEW disk_holding IS 'Which disk rows mean a disk that holds data. In another machine than the one it was written in, model and size must be the same too: serials repeat between makers.';

-- Machines that have an installed system, or did not end well since.
INSERT INTO disk_data (identity, machine_id, found_in, serial, wwn, model, size_bytes, operation_id, written)
SELECT DISTINCT ON (d.identity, d.machine_id) d.identity, d.machine_id, d.machine_id, d.serial, d.wwn, d.model, d.size_bytes,
    coalesce(p.operation_id, m.operation_id, ''), p.operation_id IS NOT NULL AND p.disk_serial IN (d.serial, d.wwn)
FROM disk d JOIN machine m ON m.id = d.machine_id LEFT JOIN deployment p ON p.machine_id = m.id AND p.is_current
WHERE NOT d.read_only AND NOT d.removable AND (p.operation_id IS NOT NULL OR m.state IN ('deploying', 'deployed', 'releasing', 'erasing'));
