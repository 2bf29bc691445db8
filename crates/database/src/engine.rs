//! The database engines that have a recipe.
//!
//! Invariant: an engine's word is stable; it stands in reports and manifests.

/// A database engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Engine {
    /// PostgreSQL and what is built from it (PostGIS, TimescaleDB, pgvector).
    PostgreSql,
    /// MySQL and Percona Server.
    MySql,
    /// MariaDB.
    MariaDb,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// MongoDB.
    MongoDb,
}

impl Engine {
    /// Its name for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::MongoDb => "MongoDB",
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Whether a copy of the data volume is still worth having beside accepted dumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumeCopy {
    /// The dumps hold everything the engine would need from its volume.
    Redundant,
    /// The volume holds more than the dumps.
    HoldsMore {
        /// What would be lost without a copy of the volume.
        what: &'static str,
    },
}
