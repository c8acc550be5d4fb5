-- name: TokenEndExpired
UPDATE token SET revoked_at = expires_at WHERE name = $1 AND revoked_at IS NULL AND expires_at <= ingot_now();

-- name: TokenInsert
INSERT INTO token (name, prefix, token_sha256, created_by, expires_at) VALUES ($1, $2, $3, $4, $5);

-- name: TokenCheck
WITH hit AS (
    SELECT id, name, last_used_at FROM token
    WHERE token_sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ingot_now())
), used AS (
    UPDATE token t SET last_used_at = ingot_now() FROM hit
    WHERE t.id = hit.id AND (hit.last_used_at IS NULL OR hit.last_used_at < ingot_now() - interval '1 minute')
)
SELECT name FROM hit;

-- name: TokenTableLock
LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE;

-- name: TokenAny
SELECT EXISTS (SELECT 1 FROM token);

-- name: TokenRevoke
UPDATE token SET revoked_at = ingot_now()
WHERE name = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ingot_now());

-- name: TokenList
SELECT name, prefix, created_by, created_at, expires_at, last_used_at, coalesce(revoked_at, CASE WHEN expires_at <= ingot_now() THEN expires_at END)
FROM token
WHERE $1 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ingot_now()))
ORDER BY id;
