-- name: ReportAdvance
UPDATE machine SET report_sequence = $2, agent_seen_at = ingot_now() WHERE id = $1;

-- name: CollectionInsert
INSERT INTO collection (machine_id, boot_generation, at, payload) VALUES ($1, $2, $3, $4);

-- name: CollectionTrim
DELETE FROM collection WHERE machine_id = $1 AND id NOT IN
    (SELECT id FROM collection WHERE machine_id = $1 ORDER BY id DESC LIMIT 20);

-- name: CollectionNewest
SELECT payload, at FROM collection WHERE machine_id = $1 ORDER BY id DESC LIMIT 1;

-- name: FactsSet
UPDATE machine SET
    architecture = CASE WHEN $2 = '' THEN architecture ELSE $2 END,
    boot_mode = CASE WHEN $3 = '' THEN boot_mode ELSE $3 END,
    uuid = coalesce(uuid, $4),
    serial = CASE WHEN serial = '' THEN $5 ELSE serial END,
    vendor = $6, product = $7, memory_bytes = $8, cpu_threads = $9
WHERE id = $1;

-- name: FactsNICsAbsent
UPDATE nic SET present = false, link_up = false WHERE machine_id = $1;

-- name: FactsNICPut
INSERT INTO nic (machine_id, site_id, hardware_addr, mac, locally_administered, name, speed_bits_per_second, link_up, driver, boot_nic, neighbour)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (machine_id, hardware_addr) DO UPDATE SET present = true, name = excluded.name,
    speed_bits_per_second = excluded.speed_bits_per_second, link_up = excluded.link_up, driver = excluded.driver,
    boot_nic = excluded.boot_nic, neighbour = excluded.neighbour;

-- name: FactsDisks
SELECT id, serial, wwn, by_path FROM disk WHERE machine_id = $1 ORDER BY present DESC, id FOR UPDATE;

-- name: FactsDisksAbsent
UPDATE disk SET present = false WHERE machine_id = $1;

-- name: FactsDiskInsert
INSERT INTO disk (machine_id, name, serial, wwn, by_path, model, size_bytes, sector_bytes, kind, health, read_only, removable)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: FactsDiskUpdate
UPDATE disk SET present = true, name = $2, serial = $3, wwn = $4, by_path = $5, model = $6, size_bytes = $7, sector_bytes = $8,
    kind = $9, health = $10, read_only = $11, removable = $12
WHERE id = $1;

-- name: TestInsert
INSERT INTO test_result (machine_id, order_id, boot_generation, name, subject, outcome, detail, elapsed_ns, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: TestList
SELECT order_id, boot_generation, name, subject, outcome, detail, elapsed_ns, at FROM test_result
WHERE machine_id = $1 ORDER BY id DESC LIMIT $2;

-- name: AgentOnline
UPDATE machine SET agent_online = true, agent_controller = $2, agent_stream = agent_stream + 1, agent_seen_at = ingot_now(),
    power_state = 'on', wake_at = least(wake_at, ingot_now())
WHERE id = $1
RETURNING agent_stream, report_sequence;

-- name: AgentOffline
UPDATE machine SET agent_online = false, agent_seen_at = ingot_now(), wake_at = least(wake_at, ingot_now())
WHERE id = $1 AND boot_generation = $2 AND agent_stream = $3 AND agent_online;

-- name: AgentStanding
SELECT hostname, approved, state, outcome, reason, boot_generation, agent_stream, agent_online, report_sequence
FROM machine WHERE id = $1;

-- name: ControllerStart
INSERT INTO controller (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at = ingot_now(), heartbeat_at = ingot_now();

-- name: ControllerHeartbeat
UPDATE controller SET heartbeat_at = ingot_now() WHERE id = $1;

-- name: ControllerDropAgents
UPDATE machine SET agent_online = false, agent_seen_at = ingot_now(), wake_at = least(wake_at, ingot_now())
WHERE agent_online AND agent_controller = $1;

-- name: ControllerDropLeases
UPDATE machine SET lease_holder = '', lease_expires_at = NULL, wake_at = least(wake_at, ingot_now())
WHERE lease_holder = $1;

-- name: ControllerDropClaims
UPDATE machine_order SET claim_expires_at = ingot_now()
WHERE claim_holder = $1 AND finished_at IS NULL AND claim_expires_at > ingot_now();

-- name: ControllerDropDead
UPDATE machine m SET agent_online = false, agent_seen_at = ingot_now(), wake_at = least(wake_at, ingot_now())
WHERE m.agent_online AND NOT EXISTS
    (SELECT 1 FROM controller c WHERE c.id = m.agent_controller AND c.heartbeat_at > ingot_now() - interval '20 seconds');

-- name: FirstBootFind
SELECT id, machine_id FROM operation WHERE report_token_sha256 = $1 AND kind = 'deploy';

-- name: FirstBootHas
SELECT report_sha256 FROM first_boot_report WHERE operation_id = $1;

-- name: FirstBootOpen
SELECT m.operation_id = $2 OR EXISTS (SELECT 1 FROM deployment d WHERE d.machine_id = m.id AND d.operation_id = $2 AND d.is_current),
    (SELECT state FROM operation WHERE id = $2)
FROM machine m WHERE m.id = $1;

-- name: FirstBootInsert
INSERT INTO first_boot_report (operation_id, machine_id, report, report_sha256) VALUES ($1, $2, $3, $4);

-- name: ReportAfford
WITH had AS (
    SELECT id, report_dropped AS dropped,
        greatest(0, report_spent - greatest(0, extract(epoch FROM ingot_now() - report_spent_at))::double precision
            * CASE WHEN approved THEN $3::double precision ELSE $4::double precision END) AS spent,
        CASE WHEN approved THEN $5::double precision ELSE $6::double precision END AS most
    FROM machine WHERE id = $1
), judged AS (
    -- Once it is too much, half of it has to be given back first.
    SELECT *, spent + $2::double precision <= CASE WHEN dropped = 0 THEN most ELSE most / 2 END AS fits FROM had
)
UPDATE machine m SET
    report_spent = CASE WHEN j.fits THEN j.spent + $2::double precision ELSE j.spent END,
    report_spent_at = ingot_now(),
    report_dropped = CASE WHEN j.fits THEN 0 ELSE j.dropped + 1 END
FROM judged j WHERE m.id = j.id
RETURNING j.fits, j.dropped;

-- name: AgentsHeld
SELECT m.id, concat_ws(' ', m.boot_generation, m.agent_stream, m.approved, m.state, m.outcome, m.reason, m.hostname,
    (SELECT string_agg(o.id::text, ' ' ORDER BY o.id) FROM machine_order o
        WHERE o.machine_id = m.id AND o.target = 'agent' AND o.state IN ('pending', 'delivered')))
FROM machine m WHERE m.agent_online AND m.agent_controller = $1;
