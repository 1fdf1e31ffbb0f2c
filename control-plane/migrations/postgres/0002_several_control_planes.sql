-- By which a control plane knows that its authority is this deployment's.
ALTER TABLE deployment ADD COLUMN ca_pin TEXT COLLATE "C";

-- Control planes at work. Whoever has stopped counting its beats has stopped.
CREATE TABLE control_plane (
    id      TEXT COLLATE "C" PRIMARY KEY,
    beats   BIGINT NOT NULL
);

-- The control plane's process that takes the run's actions.
ALTER TABLE run ADD COLUMN control_plane TEXT COLLATE "C";

-- What edges report to one control plane, for the others. A session is one presence connection there.
CREATE TABLE edge_presence (
    edge_id             TEXT COLLATE "C" PRIMARY KEY REFERENCES edge (id) ON DELETE CASCADE,
    control_plane       TEXT COLLATE "C" NOT NULL,
    session             BIGINT NOT NULL,
    is_live             BIGINT NOT NULL,
    applied_generation  BIGINT NOT NULL,
    report              TEXT COLLATE "C" NOT NULL,
    version             BIGINT NOT NULL
);
