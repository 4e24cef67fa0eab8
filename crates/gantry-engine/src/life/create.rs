//! Making a container: everything is checked and looked up, and then it is there, by one commit.

use std::sync::Arc;

use gantry_model::image::ContainerConfig;

use crate::bundle::{self, Found};
use crate::container::{ImageUse, Mount, Record, State};
use crate::db::{Row, Table};
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Context, Error, Result};
use crate::health;
use crate::logs;
use crate::merge;
use crate::names;
use crate::request::{CreateContainer, MountKind, Restart};
use crate::spec;
use crate::table::Container;
use crate::volumes::CreateVolume;
use crate::volumes::plan::{self, Planned};

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
        let request = self.placed(request)?;
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
        // No volume that this one comes to use is removed before it is said to be used.
        let _using = self.0.using_volumes.lock().await;
        let mut record = self.record_of(request, id, name, image, &loaded.config.config)?;
        if record.host.log.driver.is_empty() {
            let own = std::mem::replace(&mut record.host.log.options, self.default_log().options);
            record.host.log.options.extend(own);
            record.host.log.driver = self.default_log_driver();
        }
        for place in &record.network.endpoints {
            self.0.networks.check_addresses(place)?;
        }
        logs::plan(&record.host.log, &self.default_log())?;
        // What makes no sense is said now, and not when it is started.
        spec::build(&bundle::settings(&record, &Found::default())?, &self.place(&record))?;
        health::Check::new(&record.config.health.clone().unwrap_or_default(), &[])
            .map_err(|error| Error::Invalid(error.to_string()))?;
        if record.host.auto_remove && record.host.restart != Restart::No {
            return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".to_owned()));
        }
        let made = self.mounts_of(&mut record).await?;
        let warnings = Vec::new();
        let (store, key) = (self.images().store().clone(), record.id.clone());
        let (chain, dir) = (unpacked.chain.clone(), self.root_dir(id));
        let prepared = blocking(move || {
            // The directory comes first and goes last: by it what a crash left is found.
            make_dir(&dir)?;
            Ok(store.prepare(&key, chain.as_ref()).map(drop)?)
        });
        if let Err(error) = prepared.await {
            self.unmake(id, &made).await;
            return Err(error);
        }
        // The layers are held by the snapshot from here on.
        drop(unpacked);
        if let Err(error) = self.0.db.write(vec![Row::put(Table::Containers, id, &record)]).await {
            self.unmake(id, &made).await;
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
            infra: None,
            mounts: Vec::new(),
            origin: request.origin,
        })
    }

    /// Decides what is mounted, and makes the volumes that are missing; their names, for the case that all this fails.
    async fn mounts_of(&self, record: &mut Record) -> Result<Vec<String>> {
        let mut others = Vec::new();
        for text in &record.host.volumes_from {
            let (other, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !["ro", "rw", "z", "Z"].contains(&mode) {
                return Err(Error::Invalid(format!("invalid mode: {mode}")));
            }
            // Not as what is missing itself: clients would take that for the image, and pull it.
            let other = self.find(other).map_err(|error| Error::Invalid(error.to_string()))?;
            others.push((other.record().mounts.clone(), mode == "ro"));
        }
        let planned = plan::all(&record.host, &record.config.volumes, &others)?;
        let mut made = Vec::new();
        for one in planned {
            match self.settle_mount(one, &record.id, &mut made).await {
                Ok(mount) => record.mounts.push(mount),
                Err(error) => {
                    self.unmake(&record.id, &made).await;
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    async fn settle_mount(&self, planned: Planned, id: &str, made: &mut Vec<String>) -> Result<Mount> {
        let mut mount = planned.mount;
        match mount.kind {
            MountKind::Volume => {
                let known = !mount.name.is_empty() && self.volume(&mount.name).is_ok();
                let asked = CreateVolume {
                    name: mount.name.clone(),
                    driver: planned.driver,
                    labels: planned.labels,
                    options: planned.options,
                    owner: if mount.anonymous { id.to_owned() } else { String::new() },
                };
                let volume = self.create_volume(asked).await?;
                if !known {
                    made.push(volume.name.clone());
                }
                mount.name.clone_from(&volume.name);
                mount.source.clone_from(&volume.mountpoint);
                "local".clone_into(&mut mount.driver);
            }
            MountKind::Bind => {
                let source = std::path::Path::new(&mount.source);
                if planned.create_source {
                    if !source.exists() {
                        std::fs::create_dir_all(source).context(|| format!("make {}", source.display()))?;
                    }
                } else if !source.exists() {
                    let words = format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        source.display()
                    );
                    return Err(Error::Invalid(words));
                }
            }
            MountKind::Image => drop(self.images().resolve(&mount.name, None).await?),
            MountKind::Tmpfs => {}
        }
        Ok(mount)
    }

    /// Takes back what was made for a container that is not to be.
    async fn unmake(&self, id: &str, volumes: &[String]) {
        self.clear(id).await;
        for name in volumes {
            let engine = self.clone();
            let name = name.clone();
            if let Err(error) = blocking(move || engine.0.volumes.take_away(&name)).await {
                tracing::warn!("{error}");
            }
        }
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
    pub(crate) async fn clear(&self, id: &str) {
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
