-- +goose Up

-- What a machine makes us keep of its own accord is bounded in rate: report_spent
-- lines at report_spent_at, of which some are given back with time. While
-- report_dropped is not zero, more is not kept.
ALTER TABLE machine
    ADD COLUMN report_spent    double precision NOT NULL DEFAULT 0 CHECK (report_spent >= 0),
    ADD COLUMN report_spent_at timestamptz NOT NULL DEFAULT ingot_now(),
    ADD COLUMN report_dropped  bigint NOT NULL DEFAULT 0 CHECK (report_dropped >= 0);
