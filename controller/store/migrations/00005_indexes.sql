-- +goose Up

-- The claim of a BMC's order asks for newer ones of the same machine; looks at
-- the power state make these rows many.
CREATE INDEX machine_order_bmc ON machine_order (machine_id, lease_token) WHERE target = 'bmc';

-- What is seen of a booting machine may be known by its address only.
CREATE INDEX lease_active_address ON lease (address) WHERE state = 'active';

-- Images in use by what is asked.
CREATE INDEX operation_image ON operation (image_digest) WHERE state IN ('pending', 'running');
