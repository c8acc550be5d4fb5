-- +goose Up

-- What a machine makes us keep of its own accord is bounded in rate: report_spent
-- lines at report_spent_at, of which some are given back with time. While
-- report_dropped is not zero, more is not kept.
ALTER TABLE machine
    ADD COLUMN report_spent    double precision NOT NULL DEFAULT 0 CHECK (report_spent >= 0),
    ADD COLUMN report_spent_at timestamptz NOT NULL DEFAULT ingot_now(),
    ADD COLUMN report_dropped  bigint NOT NULL DEFAULT 0 CHECK (report_dropped >= 0);

-- History outlives a machine that is deleted, and receipts the operation that is
-- forgotten.
ALTER TABLE event DROP CONSTRAINT event_machine_id_fkey;
ALTER TABLE erase_receipt DROP CONSTRAINT erase_receipt_machine_id_fkey;
ALTER TABLE erase_receipt DROP CONSTRAINT erase_receipt_operation_id_fkey;

CREATE TABLE pruning (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder        text NOT NULL DEFAULT '',
    claimed_until timestamptz,
    next_at       timestamptz NOT NULL DEFAULT ingot_now(),
    event_xid     xid8 NOT NULL DEFAULT '0'
);
COMMENT ON TABLE pruning IS 'One row: which controller forgets what is older than is kept, and when next. event_xid is the highest of events that were forgotten: a watch of all machines that would go on below it is refused. Written by the pruner.';
INSERT INTO pruning DEFAULT VALUES;

-- What pruning looks for, and what deleting a referenced row asks.
CREATE INDEX operation_finished ON operation (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX machine_order_audit ON machine_order (audit_id) WHERE audit_id IS NOT NULL;
CREATE INDEX machine_order_finished ON machine_order (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX agent_certificate_expiry ON agent_certificate (expires_at);
CREATE INDEX lease_expiry ON lease (expires_at);
