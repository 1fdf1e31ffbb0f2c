-- How long an answer to a token's requests may take to begin, in seconds; NULL: as long as the origin takes.
ALTER TABLE proxy_token ADD COLUMN response_timeout_s BIGINT;
