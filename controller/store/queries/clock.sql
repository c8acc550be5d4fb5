-- name: ClockNow
SELECT ingot_now();

-- name: ClockHold
INSERT INTO held_clock (held_at) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET held_at = excluded.held_at;

-- name: WakeNotify
SELECT pg_notify('ingot_wake', $1);
