-- name: SubnetFind
SELECT id, cidr, gateway, dns, ntp, domain FROM subnet
WHERE CASE WHEN $1::inet IS NOT NULL THEN cidr >>= $1 ELSE cidr = $2::cidr END
ORDER BY masklen(cidr) DESC
LIMIT 1;

-- name: SubnetLock
SELECT id FROM subnet WHERE id = $1 FOR NO KEY UPDATE;

-- name: SubnetEnsure
INSERT INTO subnet (cidr, gateway, dns, ntp, domain) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (site_id, cidr) DO UPDATE SET gateway = excluded.gateway, dns = excluded.dns, ntp = excluded.ntp, domain = excluded.domain
RETURNING id;

-- name: SubnetTableLock
LOCK TABLE subnet IN SHARE ROW EXCLUSIVE MODE;

-- name: SubnetOverlaps
SELECT cidr FROM subnet WHERE cidr && $1 AND cidr <> $1 LIMIT 1;

-- name: RangeList
SELECT subnet_id, first, last, kind FROM ip_range WHERE subnet_id = $1 ORDER BY first, last, kind;

-- name: RangeEnsure
INSERT INTO ip_range (subnet_id, first, last, kind)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT 1 FROM ip_range WHERE subnet_id = $1 AND first = $2 AND last = $3 AND kind = $4);

-- name: RangeDelete
DELETE FROM ip_range WHERE subnet_id = $1 AND first = $2 AND last = $3 AND kind = $4;

-- name: LeaseOfClient
SELECT id, address, stage, state, expires_at, expires_at > ingot_now() FROM lease
WHERE subnet_id = $1 AND client_key = $2 AND state <> 'declined'
FOR UPDATE;

-- name: LeaseTaken
SELECT EXISTS (SELECT 1 FROM lease
    WHERE subnet_id = $1 AND address = $2 AND state <> 'released' AND expires_at > ingot_now()
        AND (client_key <> $3 OR state = 'declined'));

-- name: LeaseTakenAll
SELECT address FROM lease
WHERE subnet_id = $1 AND state <> 'released' AND expires_at > ingot_now() AND (client_key <> $2 OR state = 'declined');

-- name: LeaseFreeAddress
UPDATE lease SET state = 'released', updated_at = ingot_now()
WHERE subnet_id = $1 AND address = $2 AND state IN ('offered', 'active') AND client_key <> $3 AND expires_at <= ingot_now();

-- name: LeaseFreeQuarantine
DELETE FROM lease WHERE subnet_id = $1 AND address = $2 AND state = 'declined' AND expires_at <= ingot_now();

-- name: LeasePut
INSERT INTO lease (subnet_id, client_key, hardware_addr, client_id, address, stage, state, expires_at, hostname, vendor_class)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (subnet_id, client_key) WHERE state <> 'declined' DO UPDATE SET
    hardware_addr = excluded.hardware_addr, client_id = excluded.client_id, address = excluded.address, stage = excluded.stage,
    state = excluded.state, expires_at = excluded.expires_at, hostname = excluded.hostname, vendor_class = excluded.vendor_class,
    updated_at = ingot_now();

-- name: LeaseRelease
UPDATE lease SET state = 'released', expires_at = ingot_now(), updated_at = ingot_now()
WHERE client_key = $1 AND address = $2 AND state IN ('offered', 'active');

-- name: LeaseDecline
UPDATE lease SET state = 'declined', expires_at = ingot_now() + interval '10 minutes', updated_at = ingot_now()
WHERE client_key = $1 AND address = $2 AND state IN ('offered', 'active');

-- name: LeaseHostname
SELECT m.hostname FROM nic n JOIN machine m ON m.id = n.machine_id WHERE n.hardware_addr = $1 LIMIT 2;

-- name: LeaseList
SELECT l.id, l.subnet_id, l.hardware_addr, l.client_id, l.address, l.stage, l.state, l.expires_at, l.hostname,
    l.state = 'active' AND l.expires_at > ingot_now(),
    coalesce((SELECT min(n.machine_id) FROM nic n WHERE n.hardware_addr = l.hardware_addr), '')
FROM lease l
WHERE l.id > $1 AND l.state IN ('active', 'released', 'declined')
ORDER BY l.id
LIMIT $2;

-- name: SubnetByID
SELECT id, cidr, gateway, dns, ntp, domain FROM subnet WHERE id = $1 FOR NO KEY UPDATE;

-- name: SubnetList
SELECT id, cidr, gateway, dns, ntp, domain FROM subnet ORDER BY cidr;
