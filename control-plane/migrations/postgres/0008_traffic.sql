-- What went through tunnels: a row for each minute of a day and each hour of a month in which something did.
CREATE TABLE traffic (
    tunnel_id   TEXT COLLATE "C" NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    step_s      BIGINT NOT NULL,
    start_s     BIGINT NOT NULL,
    counts      TEXT   NOT NULL,
    PRIMARY KEY (tunnel_id, step_s, start_s)
);
CREATE INDEX traffic_age ON traffic (step_s, start_s);

-- The latest refusals of each tunnel, numbered as they came.
CREATE TABLE failure (
    tunnel_id   TEXT COLLATE "C" NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    at_ms       BIGINT NOT NULL,
    failure     TEXT   NOT NULL,
    PRIMARY KEY (tunnel_id, number)
);
