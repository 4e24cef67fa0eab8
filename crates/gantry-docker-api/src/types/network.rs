//! Networks as clients see them.

use std::collections::BTreeMap;

use gantry_engine::NetworkView;
use gantry_engine::request::{CreateNetwork, SubnetRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::create::EndpointConfig;
use super::nullable;
use crate::time::rfc3339;

/// The body of `/networks/create`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateNetworkBody {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    internal: bool,
    #[serde(deserialize_with = "nullable")]
    attachable: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ingress: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) scope: String,
    #[serde(rename = "EnableIPv6", deserialize_with = "nullable")]
    ipv6: bool,
    #[serde(rename = "EnableIPv4")]
    ipv4: Option<bool>,
    #[serde(rename = "IPAM", deserialize_with = "nullable")]
    ipam: Ipam,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    config: Vec<IpamSubnet>,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamSubnet {
    #[serde(deserialize_with = "nullable")]
    subnet: String,
    #[serde(rename = "IPRange", deserialize_with = "nullable")]
    ip_range: String,
    #[serde(deserialize_with = "nullable")]
    gateway: String,
    #[serde(rename = "AuxiliaryAddresses", deserialize_with = "nullable")]
    aux_addresses: BTreeMap<String, String>,
}

impl CreateNetworkBody {
    /// As the engine has it.
    pub(crate) fn request(self) -> CreateNetwork {
        let subnet = |one: IpamSubnet| SubnetRequest {
            subnet: one.subnet,
            ip_range: one.ip_range,
            gateway: one.gateway,
            aux_addresses: one.aux_addresses,
        };
        CreateNetwork {
            name: self.name,
            driver: self.driver,
            internal: self.internal,
            attachable: self.attachable,
            ipv6: self.ipv6,
            ipv4: self.ipv4,
            ipam_driver: self.ipam.driver,
            ipam_options: self.ipam.options,
            subnets: self.ipam.config.into_iter().map(subnet).collect(),
            options: self.options,
            labels: self.labels,
        }
    }
}

/// The bodies of connect and disconnect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct JoinBody {
    #[serde(deserialize_with = "nullable")]
    pub(crate) container: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) endpoint_config: EndpointConfig,
    #[serde(deserialize_with = "nullable")]
    pub(crate) force: bool,
}

/// One network; its containers only if they are asked for.
pub(crate) fn network(view: &NetworkView, containers: bool) -> Value {
    let (record, request) = (&view.record, &view.record.request);
    let subnets = record.spec.iter().flat_map(|spec| &spec.subnets).map(|subnet| {
        let mut one = Map::new();
        one.insert("Subnet".to_owned(), subnet.cidr.to_string().into());
        if let Some(range) = subnet.ip_range {
            one.insert("IPRange".to_owned(), range.to_string().into());
        }
        if let Some(gateway) = subnet.gateway {
            one.insert("Gateway".to_owned(), gateway.to_string().into());
        }
        if !subnet.aux.is_empty() {
            let aux = subnet.aux.iter().map(|(name, address)| (name.clone(), Value::from(address.to_string())));
            one.insert("AuxiliaryAddresses".to_owned(), aux.collect::<Map<_, _>>().into());
        }
        Value::from(one)
    });
    let subnets: Vec<Value> = subnets.collect();
    let members = view.members.iter().filter(|_| containers).map(|(id, (name, place))| {
        let cidr =
            |address: &str, prefix: u8| if address.is_empty() { String::new() } else { format!("{address}/{prefix}") };
        let member = json!({
            "Name": name,
            "EndpointID": place.id,
            "MacAddress": place.mac_address,
            "IPv4Address": cidr(&place.ipv4, place.ipv4_prefix),
            "IPv6Address": cidr(&place.ipv6, place.ipv6_prefix),
        });
        (id.clone(), member)
    });
    let members: Map<String, Value> = members.collect();
    let ipam = if record.spec.is_some() { json!(subnets) } else { Value::Null };
    let ipam_options = if request.ipam_options.is_empty() && record.is_predefined() {
        Value::Null
    } else {
        json!(request.ipam_options)
    };
    json!({
        "Name": record.name(),
        "Id": record.id,
        "Created": rfc3339(record.created),
        "Scope": "local",
        "Driver": request.driver,
        "EnableIPv6": request.ipv6,
        "IPAM": {
            "Driver": if request.ipam_driver.is_empty() { "default" } else { &request.ipam_driver },
            "Options": ipam_options,
            "Config": ipam,
        },
        "Internal": request.internal,
        "Attachable": request.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": members,
        "Options": options(view),
        "Labels": request.labels,
    })
}

/// The options, and for the default network what it is.
fn options(view: &NetworkView) -> Value {
    let record = &view.record;
    let mut options = record.request.options.clone();
    if let (true, Some(spec)) = (record.is_predefined(), &record.spec) {
        let text = |value: bool| value.to_string();
        for (key, value) in [
            ("com.docker.network.bridge.default_bridge", text(true)),
            ("com.docker.network.bridge.enable_icc", text(spec.icc)),
            ("com.docker.network.bridge.enable_ip_masquerade", text(spec.masquerade)),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("com.docker.network.bridge.name", spec.bridge.clone()),
            ("com.docker.network.driver.mtu", spec.mtu.unwrap_or(1500).to_string()),
        ] {
            options.entry(key.to_owned()).or_insert(value);
        }
    }
    json!(options)
}
