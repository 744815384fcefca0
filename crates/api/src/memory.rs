//! A change of memory settings: [`MemoryPatch`].

use std::path::PathBuf;

use dynmem_core::{DemandModel, MemorySettings};
use dynmem_units::{Bytes, Percent, Weight};
use serde::{Deserialize, Serialize};

/// The body of `PATCH /v1/vms/{name}/memory`. What is absent stays as it is.
/// Sizes are bytes or text such as `"512MB"`. The rules are checked on the
/// whole that results, so fields that depend on each other change together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MemoryPatch {
    /// Whether memory moves at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<bool>,
    /// Memory that the VM boots with, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<dynmem_units::SizeText>))]
    pub startup: Option<Bytes>,
    /// Memory that a booted VM is always guaranteed, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<dynmem_units::SizeText>))]
    pub minimum: Option<Bytes>,
    /// Memory that the VM never exceeds, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<dynmem_units::SizeText>))]
    pub maximum: Option<Bytes>,
    /// Per cent of demand kept on top of demand, 5–2000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<Percent>,
    /// Relative claim when not everybody can be served, 1–10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// How demand is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand_model: Option<DemandModel>,
    /// Where the smart paging file is made when it is needed; an empty path is
    /// the daemon's own place for such files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub smart_paging_folder: Option<PathBuf>,
}

impl MemoryPatch {
    /// `settings` with this change. Nothing is checked: ask
    /// [`MemorySettings::check`] or [`MemorySettings::check_change`] about the
    /// result.
    ///
    /// ```
    /// # use {dynmem_api::MemoryPatch, dynmem_core::MemorySettings, dynmem_units::Bytes};
    /// let patch: MemoryPatch = serde_json::from_str(r#"{"maximum": "2GB"}"#)?;
    /// let new = patch.apply(&MemorySettings::default());
    /// assert_eq!(new.maximum, Bytes::from_mib(2048));
    /// assert_eq!(new.startup, MemorySettings::default().startup);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn apply(&self, settings: &MemorySettings) -> MemorySettings {
        MemorySettings {
            dynamic: self.dynamic.unwrap_or(settings.dynamic),
            startup: self.startup.unwrap_or(settings.startup),
            minimum: self.minimum.unwrap_or(settings.minimum),
            maximum: self.maximum.unwrap_or(settings.maximum),
            buffer: self.buffer.unwrap_or(settings.buffer),
            weight: self.weight.unwrap_or(settings.weight),
            demand_model: self.demand_model.unwrap_or(settings.demand_model),
            smart_paging_folder: match &self.smart_paging_folder {
                Some(folder) if folder.as_os_str().is_empty() => None,
                Some(folder) => Some(folder.clone()),
                None => settings.smart_paging_folder.clone(),
            },
        }
    }

    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let before = MemorySettings::default();
        assert!(MemoryPatch::default().is_empty());
        assert_eq!(MemoryPatch::default().apply(&before), before);

        let json = r#"{"dynamic":true,"startup":536870912,"minimum":"256MB","maximum":"4GiB",
            "buffer":30,"weight":8000,"demand_model":"committed","smart_paging_folder":"/fast"}"#;
        let patch: MemoryPatch = serde_json::from_str(json).expect("a full patch");
        let expected = MemorySettings {
            dynamic: true,
            startup: Bytes::from_mib(512),
            minimum: Bytes::from_mib(256),
            maximum: Bytes::from_mib(4096),
            buffer: Percent::new(30),
            weight: Weight::new(8000).expect("in range"),
            demand_model: DemandModel::Committed,
            smart_paging_folder: Some("/fast".into()),
        };
        assert_eq!(patch.apply(&before), expected);
    }

    #[test]
    fn an_empty_folder_is_the_usual_one() {
        let patch: MemoryPatch = serde_json::from_str(r#"{"smart_paging_folder":""}"#).expect("a patch");
        assert!(!patch.is_empty());
        let before = MemorySettings { smart_paging_folder: Some("/fast".into()), ..MemorySettings::default() };
        assert_eq!(patch.apply(&before), MemorySettings::default());
    }

    #[test]
    fn a_misspelt_setting_or_a_bad_value_is_refused() {
        for (json, why) in [
            (r#"{"minimun":"256MB"}"#, "unknown field `minimun`"),
            (r#"{"minimum":"a lot"}"#, "\"a lot\" is not a size"),
            (r#"{"minimum":-1}"#, "a size such as"),
            (r#"{"weight":0}"#, "Weight 0 is out of range"),
            (r#"{"buffer":-20}"#, "invalid value"),
            (r#"{"demand_model":"guess"}"#, "unknown variant `guess`"),
        ] {
            let error = serde_json::from_str::<MemoryPatch>(json).expect_err(json).to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
    }

    #[test]
    fn what_is_absent_is_not_sent() {
        let patch = MemoryPatch { minimum: Some(Bytes::MIB), ..MemoryPatch::default() };
        assert_eq!(serde_json::to_string(&patch).expect("plain data"), r#"{"minimum":1048576}"#);
    }
}
