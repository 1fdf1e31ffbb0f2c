-- From where accounts have been used: an address, or a network of IPv6.
CREATE TABLE login_source (
    user_id     TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    source      TEXT NOT NULL,
    used_ms     BIGINT NOT NULL,
    PRIMARY KEY (user_id, source)
);
