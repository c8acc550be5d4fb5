-- name: SettingGet
SELECT value FROM setting WHERE key = $1;

-- name: SettingMerge
INSERT INTO setting (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = setting.value || excluded.value, updated_at = ingot_now();
