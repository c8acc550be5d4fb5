-- name: DiskDataWrite
INSERT INTO disk_data (identity, machine_id, found_in, serial, wwn, model, size_bytes, operation_id, written)
SELECT d.identity, d.machine_id, d.machine_id, d.serial, d.wwn, d.model, d.size_bytes, $2, true
FROM disk d WHERE d.machine_id = $1 AND d.present AND $3 <> '' AND CASE WHEN d.serial <> '' THEN d.serial ELSE d.wwn END = $3
ON CONFLICT (identity, machine_id) DO UPDATE SET operation_id = excluded.operation_id, written = true, found_in = excluded.found_in;

-- name: DiskDataReach
INSERT INTO disk_data (identity, machine_id, found_in, serial, wwn, model, size_bytes, operation_id, written)
SELECT DISTINCT ON (d.identity) d.identity, d.machine_id, d.machine_id, d.serial, d.wwn, d.model, d.size_bytes, $2, false
FROM disk d WHERE d.machine_id = $1 AND d.present AND NOT d.read_only AND NOT d.removable
ON CONFLICT (identity, machine_id) DO NOTHING;

-- name: DiskDataFound
UPDATE disk_data t SET found_in = $1
FROM disk_holding h
WHERE h.data_id = t.id AND h.machine_id = $1 AND h.present AND t.found_in <> $1
RETURNING h.written_in, coalesce(nullif(t.serial, ''), t.wwn), t.operation_id;

-- name: DiskDataErased
DELETE FROM disk_data WHERE id IN (
    SELECT h.data_id FROM disk_holding h JOIN disk d ON d.id = h.disk_id
    WHERE h.machine_id = $1 AND d.serial = $2 AND ($2 <> '' OR ($3 <> '' AND d.wwn = $3)))
    OR (found_in = $1 AND serial = $2 AND ($2 <> '' OR ($3 <> '' AND wwn = $3)));

-- name: DiskDataVouch
DELETE FROM disk_data WHERE id IN (
    SELECT t.id FROM disk_data t LEFT JOIN disk_holding h ON h.data_id = t.id AND h.machine_id = $1
    WHERE (t.found_in = $1 OR h.data_id IS NOT NULL) AND $2 <> '' AND CASE WHEN t.serial <> '' THEN t.serial ELSE t.wwn END = $2);

-- name: DiskDataOfOthers
SELECT CASE WHEN d.serial <> '' THEN d.serial ELSE d.wwn END, h.written_in, h.operation_id
FROM disk_holding h JOIN disk d ON d.id = h.disk_id
WHERE h.machine_id = $1 AND h.present AND ($2 OR h.written_in <> $1)
ORDER BY d.id LIMIT 1;

-- name: DiskDataLeft
SELECT EXISTS (SELECT 1 FROM disk_holding WHERE machine_id = $1 AND present) OR EXISTS (
    SELECT 1 FROM disk_data t WHERE t.found_in = $1
        AND NOT EXISTS (SELECT 1 FROM disk_holding h WHERE h.data_id = t.id AND h.machine_id = $1 AND h.present));

-- name: MachineLoadDiskData
SELECT DISTINCT ON (h.disk_id) h.machine_id, h.disk_id, h.since, h.operation_id, h.written_in, h.written
FROM disk_holding h
WHERE h.machine_id = ANY ($1) AND h.present
ORDER BY h.disk_id, h.written DESC, h.since;

-- name: MachineLoadLostDisks
SELECT t.found_in, t.serial, t.wwn, t.model, t.since, t.operation_id, t.machine_id, t.written
FROM disk_data t
WHERE t.found_in = ANY ($1)
    AND NOT EXISTS (SELECT 1 FROM disk_holding h WHERE h.data_id = t.id AND h.machine_id = t.found_in AND h.present)
ORDER BY t.id;
