//! Making a container: everything is checked and looked up, and then it is there, by one commit.

use std::sync::Arc;

use gantry_model::image::ContainerConfig;

use crate::container::{ImageUse, Record, State};
use crate::db::{Row, Table};
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Context, Error, Result};
use crate::merge;
use crate::names;
use crate::request::CreateContainer;
use crate::table::Container;

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// What is not as the caller may think.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container.
    ///
    /// # Errors
    /// Its image is not here, its name is taken, or what was asked for makes no sense. Nothing is left of it.
    pub async fn create(&self, request: CreateContainer) -> Result<Made> {
        let id = names::id()?;
        let name = self.take_name(request.name.as_deref(), &id)?;
        let made = self.make(request, &id, &name).await;
        if made.is_err() {
            self.write().free_name(&name);
        }
        made
    }

    async fn make(&self, request: CreateContainer, id: &str, name: &str) -> Result<Made> {
        let loaded = self.images().resolve(&request.image, request.platform.clone()).await?;
        let unpacked = self.images().ensure_unpacked(&loaded.descriptor).await?;
        let image = ImageUse {
            name: request.image.clone(),
            id: loaded.id().clone(),
            manifest: loaded.descriptor.clone(),
            platform: loaded.platform().clone(),
            chain: unpacked.chain.clone(),
        };
        let record = self.record_of(request, id, name, image, &loaded.config.config)?;
        let warnings = Vec::new();
        let (store, key) = (self.images().store().clone(), record.id.clone());
        let (chain, dir) = (unpacked.chain.clone(), self.root_dir(id));
        blocking(move || {
            store.prepare(&key, chain.as_ref())?;
            make_dir(&dir)
        })
        .await?;
        // The layers are held by the snapshot from here on.
        drop(unpacked);
        if let Err(error) = self.0.db.write(vec![Row::put(Table::Containers, id, &record)]).await {
            self.clear(id).await;
            return Err(error);
        }
        let container = Arc::new(Container::new(record, State::default()));
        self.write().insert(Arc::clone(&container));
        self.tell_of(&container, "create", &[]);
        Ok(Made { id: id.to_owned(), warnings })
    }

    fn record_of(
        &self,
        request: CreateContainer,
        id: &str,
        name: &str,
        image: ImageUse,
        config: &ContainerConfig,
    ) -> Result<Record> {
        let mut config = merge::merge(request.config, config)?;
        if config.hostname.is_empty() {
            id[..12].clone_into(&mut config.hostname);
        }
        Ok(Record {
            id: id.to_owned(),
            name: name.to_owned(),
            created: self.now(),
            image: Some(image),
            config,
            host: request.host,
            network: request.network,
            sandbox: request.sandbox.unwrap_or_else(|| id.to_owned()),
            mounts: Vec::new(),
            origin: request.origin,
        })
    }

    /// Takes a name that was asked for, or one that is free.
    fn take_name(&self, asked: Option<&str>, id: &str) -> Result<String> {
        if let Some(name) = asked.map(|name| name.strip_prefix('/').unwrap_or(name)) {
            names::check("container", name)?;
            self.write().take_name(name, id)?;
            return Ok(name.to_owned());
        }
        let number = u16::from_le_bytes(names::random()?);
        let mut containers = self.write();
        let mut tries = (0..u32::MAX).map(|tries| names::made_up(number, tries));
        let free = tries.find(|name| !containers.has_name(name));
        let name = free.ok_or_else(|| Error::Conflict("no name is free".to_owned()))?;
        containers.take_name(&name, id)?;
        Ok(name)
    }

    /// Removes what was made on the disk for a container that is not to be.
    pub(super) async fn clear(&self, id: &str) {
        let (store, key, dir) = (self.images().store().clone(), id.to_owned(), self.root_dir(id));
        let cleared = blocking(move || {
            match store.remove_snapshot(&key) {
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
            .context(|| format!("remove {}", dir.display()))
        });
        if let Err(error) = cleared.await {
            tracing::warn!("remove container {id}: {error}");
        }
    }
}
