-- Why a tunnel was not healthy, for machines: a JSON array of codes. Older rows do not tell.
ALTER TABLE health ADD COLUMN causes TEXT NOT NULL DEFAULT '[]';
