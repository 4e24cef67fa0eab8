//! Volumes and mounts.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::csv;
use super::units;

/// Paths for which a volume is made, and what is bound: `-v`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Targets of anonymous volumes.
    pub anonymous: Vec<String>,
    /// `SOURCE:TARGET[:OPTIONS]`.
    pub binds: Vec<String>,
}

impl Volumes {
    /// Reads all of `--volume`; a source that begins with a dot is below `here`.
    pub fn read(all: &[String], here: &Path) -> Result<Self, String> {
        let mut volumes = Self::default();
        for text in all {
            let parts: Vec<&str> = text.split(':').collect();
            match parts[..] {
                [] | [""] => return Err("invalid empty volume spec".to_owned()),
                [target] => push(&mut volumes.anonymous, target.to_owned()),
                ["", ..] | [_, "", ..] => return Err(format!("invalid spec: {text}: empty section between colons")),
                [source, ref rest @ ..] if rest.len() <= 2 => {
                    let source = absolute(source, here);
                    push(&mut volumes.binds, format!("{source}:{}", rest.join(":")));
                }
                _ => return Err(format!("invalid spec: {text}: too many colons")),
            }
        }
        Ok(volumes)
    }
}

fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// A path that begins with a dot, in full; anything else as it is.
fn absolute(path: &str, here: &Path) -> String {
    if path != "." && path != ".." && !path.starts_with("./") && !path.starts_with("../") {
        return path.to_owned();
    }
    let mut full = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(full.pop()),
            part => full.push(part),
        }
    }
    full.display().to_string()
}

/// A mount that is read from `--mount`.
#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    readonly: bool,
    consistency: String,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    labels: Map<String, Value>,
    driver: Map<String, Value>,
    driver_options: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
    has_volume: bool,
    has_bind: bool,
}

/// Reads a `--mount`.
pub fn mount(text: &str, here: &Path) -> Result<Value, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        mount.field(&field, here)?;
    }
    mount.finish()
}

impl Mount {
    fn field(&mut self, field: &str, here: &Path) -> Result<(), String> {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let key = key.to_ascii_lowercase();
        let switch = || match value {
            None => Ok(true),
            Some(value) => units::truth(value).ok_or_else(|| format!("invalid value for {key}: {value}")),
        };
        match key.as_str() {
            "readonly" | "ro" => self.readonly = switch()?,
            "volume-nocopy" => {
                self.has_volume = true;
                if switch()? {
                    self.volume.insert("NoCopy".to_owned(), true.into());
                }
            }
            "bind-nonrecursive" => {
                self.has_bind = true;
                if switch()? {
                    self.bind.insert("NonRecursive".to_owned(), true.into());
                }
            }
            "bind-create-src" | "bind-create-mountpoint" => {
                self.has_bind = true;
                if switch()? {
                    self.bind.insert("CreateMountpoint".to_owned(), true.into());
                }
            }
            _ => {
                let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
                self.valued(&key, value, field, here)?;
            }
        }
        Ok(())
    }

    fn valued(&mut self, key: &str, value: &str, field: &str, here: &Path) -> Result<(), String> {
        let wrong = || format!("invalid value for {key}: {value}");
        match key {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.source = absolute(value, here),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "consistency" => self.consistency = value.to_ascii_lowercase(),
            "bind-propagation" => {
                self.has_bind = true;
                self.bind.insert("Propagation".to_owned(), value.to_ascii_lowercase().into());
            }
            "bind-recursive" => self.recursion(value)?,
            "volume-subpath" => self.of_volume("Subpath", value),
            "image-subpath" => drop(self.image.insert("Subpath".to_owned(), value.into())),
            "volume-label" => {
                self.has_volume = true;
                pair(&mut self.labels, value);
            }
            "volume-driver" => {
                self.has_volume = true;
                self.driver.insert("Name".to_owned(), value.into());
            }
            "volume-opt" => {
                self.has_volume = true;
                pair(&mut self.driver_options, value);
            }
            "tmpfs-size" => {
                let size = units::bytes(value).map_err(|_| wrong())?;
                self.tmpfs.insert("SizeBytes".to_owned(), size.into());
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| wrong())?;
                self.tmpfs.insert("Mode".to_owned(), mode.into());
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn of_volume(&mut self, key: &str, value: &str) {
        self.has_volume = true;
        self.volume.insert(key.to_owned(), value.into());
    }

    fn recursion(&mut self, value: &str) -> Result<(), String> {
        self.has_bind = true;
        let key = match value {
            "enabled" => return Ok(()),
            "disabled" => "NonRecursive",
            "writable" => "ReadOnlyNonRecursive",
            "readonly" => "ReadOnlyForceRecursive",
            _ => {
                let known = "must be \"enabled\", \"disabled\", \"writable\", or \"readonly\"";
                return Err(format!("invalid value for bind-recursive: {value} ({known})"));
            }
        };
        self.bind.insert(key.to_owned(), true.into());
        Ok(())
    }

    fn finish(mut self) -> Result<Value, String> {
        if self.kind.is_empty() {
            return Err("type is required".to_owned());
        }
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        let mixed = [
            ("volume", self.has_volume),
            ("bind", self.has_bind),
            ("tmpfs", !self.tmpfs.is_empty()),
            ("image", !self.image.is_empty()),
        ];
        if let Some((kind, _)) = mixed.iter().find(|(kind, there)| *there && *kind != self.kind) {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", self.kind));
        }
        self.check_recursion()?;
        let mut out = Map::new();
        out.insert("Type".to_owned(), self.kind.into());
        let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
        if !self.source.is_empty() {
            put("Source", self.source.into());
        }
        put("Target", self.target.into());
        if self.readonly {
            put("ReadOnly", true.into());
        }
        if !self.consistency.is_empty() {
            put("Consistency", self.consistency.into());
        }
        if self.has_bind {
            put("BindOptions", self.bind.into());
        }
        if self.has_volume {
            if !self.labels.is_empty() {
                self.volume.insert("Labels".to_owned(), self.labels.into());
            }
            if !self.driver_options.is_empty() {
                self.driver.insert("Options".to_owned(), self.driver_options.into());
            }
            self.volume.insert("DriverConfig".to_owned(), self.driver.into());
            put("VolumeOptions", self.volume.into());
        }
        if !self.tmpfs.is_empty() {
            put("TmpfsOptions", self.tmpfs.into());
        }
        if !self.image.is_empty() {
            put("ImageOptions", self.image.into());
        }
        Ok(Value::Object(out))
    }

    fn check_recursion(&self) -> Result<(), String> {
        let needs = |value: &str, what: &str| {
            Err(format!("option 'bind-recursive={value}' requires '{what}' to be specified in conjunction"))
        };
        if self.bind.contains_key("ReadOnlyNonRecursive") && !self.readonly {
            return needs("writable", "readonly");
        }
        if self.bind.contains_key("ReadOnlyForceRecursive") {
            if !self.readonly {
                return needs("readonly", "readonly");
            }
            if self.bind.get("Propagation") != Some(&json!("rprivate")) {
                return needs("readonly", "bind-propagation=rprivate");
            }
        }
        Ok(())
    }
}

fn pair(map: &mut Map<String, Value>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if !key.is_empty() {
        map.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let check = |all: &[&str], expect: &str| {
            let all: Vec<String> = all.iter().map(|&text| text.to_owned()).collect();
            let got = match Volumes::read(&all, Path::new("/home/me")) {
                Ok(volumes) => format!("{} [{}]", volumes.binds.join(" "), volumes.anonymous.join(" ")),
                Err(why) => format!("!{why}"),
            };
            assert_eq!(got, expect, "{all:?}");
        };
        check(&["data:/data", "/etc:/etc:ro", "/var"], "data:/data /etc:/etc:ro [/var]");
        check(&["./x:/x", ".:/y:rw", "../z:/z"], "/home/me/x:/x /home/me:/y:rw /home/z:/z []");
        check(&["a:/a", "a:/a"], "a:/a []");
        check(&[""], "!invalid empty volume spec");
        check(&["a:b:c:d"], "!invalid spec: a:b:c:d: too many colons");
        check(&[":/x"], "!invalid spec: :/x: empty section between colons");
    }

    #[test]
    fn mounts() {
        let check = |text: &str, expect: &str| {
            let got =
                mount(text, Path::new("/home/me")).map_or_else(|why| format!("!{why}"), |value| value.to_string());
            assert_eq!(got, expect, "{text}");
        };
        check("type=volume,src=a,dst=/a", r#"{"Source":"a","Target":"/a","Type":"volume"}"#);
        check(
            "type=bind,source=./x,target=/a,readonly,bind-propagation=rslave",
            r#"{"BindOptions":{"Propagation":"rslave"},"ReadOnly":true,"Source":"/home/me/x","Target":"/a","Type":"bind"}"#,
        );
        check(
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
            r#"{"Target":"/t","TmpfsOptions":{"Mode":1023,"SizeBytes":1048576},"Type":"tmpfs"}"#,
        );
        check(
            "dst=/v,\"volume-opt=o=size=1m,uid=5\",volume-driver=local,volume-label=a=b,volume-nocopy",
            r#"{"Target":"/v","Type":"volume","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"o":"size=1m,uid=5"}},"Labels":{"a":"b"},"NoCopy":true}}"#,
        );
        check("dst=/v,ro=false", r#"{"Target":"/v","Type":"volume"}"#);
        check(
            "type=image,src=a:1,dst=/i,image-subpath=x",
            r#"{"ImageOptions":{"Subpath":"x"},"Source":"a:1","Target":"/i","Type":"image"}"#,
        );
        check("type=bind,src=/a", "!target is required");
        check("type=bind,dst=/a,volume-nocopy", "!cannot mix 'volume-*' options with mount type 'bind'");
        check("dst=/a,colour=red", "!unexpected key 'colour' in 'colour=red'");
        check("dst=/a,colour", "!invalid field 'colour' must be a key=value pair");
        check("dst=/a,ro=perhaps", "!invalid value for ro: perhaps");
        check("type=tmpfs,dst=/a,tmpfs-mode=9", "!invalid value for tmpfs-mode: 9");
        check(
            "type=bind,src=/a,dst=/a,bind-recursive=readonly,ro",
            "!option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        );
    }
}
