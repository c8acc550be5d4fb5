-- +goose Up

-- A token may end by itself, and shows whether anybody still uses it.
ALTER TABLE token
    ADD COLUMN expires_at   timestamptz CHECK (expires_at > created_at),
    ADD COLUMN last_used_at timestamptz;
COMMENT ON COLUMN token.last_used_at IS 'Kept to the minute: written by the check of a call when it is older.';
