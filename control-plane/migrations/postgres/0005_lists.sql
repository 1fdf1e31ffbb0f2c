-- Which tunnels the actions of a workflow name, and how many actions there are: for lists, which do not
-- read the actions themselves, and for whoever asks what uses a tunnel.
CREATE TABLE workflow_tunnel (
    workflow_id TEXT COLLATE "C" NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    tunnel      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (workflow_id, tunnel)
);
CREATE INDEX workflow_tunnel_name ON workflow_tunnel (tenant_id, tunnel);
ALTER TABLE workflow ADD COLUMN action_count BIGINT NOT NULL DEFAULT 0;
INSERT INTO workflow_tunnel (workflow_id, tenant_id, tunnel)
SELECT DISTINCT workflow.id, workflow.tenant_id, action.value ->> 'use_tunnel'
FROM workflow, json_array_elements(workflow.actions::json) AS action
WHERE action.value ->> 'use_tunnel' IS NOT NULL;
UPDATE workflow SET action_count = json_array_length(actions::json);

-- What came of a run's actions without what they answered; NULL for runs of older versions.
ALTER TABLE run ADD COLUMN outcomes TEXT COLLATE "C";
