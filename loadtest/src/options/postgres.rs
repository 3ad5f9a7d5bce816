//! What is asked of PostgreSQL.

use clap::{Args, ValueEnum};

/// What is done with PostgreSQL.
#[derive(Args, Clone, Debug)]
pub(crate) struct Postgres {
    /// Rounds, each with every mode and every way in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: u32,
    /// Seconds of each pgbench run; 0 leaves pgbench out
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub(crate) seconds: u32,
    /// Connections of pgbench
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) clients: u32,
    /// How pgbench asks
    #[arg(long, value_enum, value_delimiter = ',', default_value = "simple,extended,prepared")]
    pub(crate) modes: Vec<Mode>,
    /// What pgbench does
    #[arg(long, value_enum, default_value = "select")]
    pub(crate) script: Script,
    /// MiB of each COPY; 0 leaves COPY out
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) mib: u32,
    /// Bytes of each row that is copied
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) row: u32,
    /// Do all of it on a route that logs statements as well
    #[arg(long)]
    pub(crate) statements: bool,
    /// The database; with --target, pgbench's tables must be there
    #[arg(long, default_value = "postgres")]
    pub(crate) database: String,
    /// With --target: how libpq reaches the same database without the gateway (`host=… user=… sslmode=…`)
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) direct: Option<String>,
}

/// pgbench's protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Simple,
    Extended,
    Prepared,
}

/// pgbench's built-in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Script {
    /// One SELECT by key: the gateway's part is the largest
    Select,
    /// Seven statements, of which four write
    Tpcb,
}
