"""The tables of queues on SQLite. A migration that was released is never edited: another one is added."""

from otp.engines import Migration

# What is updated often and looked at by claims comes first, the payload last: rows are read from the front.
JOB = """
CREATE TABLE hf_job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'aside')),
    priority INTEGER NOT NULL,
    due_at REAL NOT NULL,
    topic TEXT NOT NULL,
    codec TEXT NOT NULL,
    version INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    until REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    started INTEGER NOT NULL DEFAULT 0,
    releases INTEGER NOT NULL DEFAULT 0,
    aside_at REAL,
    created_at REAL NOT NULL,
    dedup TEXT,
    checksum INTEGER NOT NULL,
    headers TEXT,
    body BLOB NOT NULL,
    last_error TEXT,
    history TEXT NOT NULL DEFAULT '[]'
) STRICT"""

# Partial, so that each holds only what it is for: a claim never meets the running, a rescue never the waiting.
READY = "CREATE INDEX hf_job_ready ON hf_job (queue, priority, due_at, seq) WHERE state = 'ready'"
RUNNING = "CREATE INDEX hf_job_running ON hf_job (queue, until) WHERE state = 'running'"
ASIDE = """
CREATE INDEX hf_job_aside ON hf_job (queue, topic, codec, version, priority, due_at, seq) WHERE state = 'aside'"""
ASIDE_SINCE = "CREATE INDEX hf_job_aside_since ON hf_job (queue, aside_at) WHERE state = 'aside'"

# expires_at is NULL as long as the job, alive or dead, is there.
DEDUP = """
CREATE TABLE hf_job_dedup (
    queue TEXT NOT NULL,
    dedup TEXT NOT NULL,
    job TEXT NOT NULL,
    expires_at REAL,
    PRIMARY KEY (queue, dedup)
) STRICT, WITHOUT ROWID"""
DEDUP_EXPIRY = "CREATE INDEX hf_job_dedup_expiry ON hf_job_dedup (queue, expires_at) WHERE expires_at IS NOT NULL"

DEAD = """
CREATE TABLE hf_job_dead (
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    died_at REAL NOT NULL,
    reason TEXT NOT NULL,
    priority INTEGER NOT NULL,
    topic TEXT NOT NULL,
    codec TEXT NOT NULL,
    version INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    releases INTEGER NOT NULL,
    created_at REAL NOT NULL,
    dedup TEXT,
    checksum INTEGER NOT NULL,
    headers TEXT,
    body BLOB NOT NULL,
    error TEXT,
    history TEXT NOT NULL
) STRICT"""
DEAD_ORDER = "CREATE INDEX hf_job_dead_order ON hf_job_dead (queue, died_at, id)"

MIGRATIONS = (
    Migration(number=1, statements=(JOB, READY, RUNNING, ASIDE, ASIDE_SINCE, DEDUP, DEDUP_EXPIRY, DEAD, DEAD_ORDER)),
)
