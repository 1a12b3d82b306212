//! The layers of a running machine's disk: one more, or one less.

use std::time::Duration;

use lampyr_engine::EngineError;
use serde_json::{Value, json};

use crate::arguments::{file_node, top_node};
use crate::copy::forget;
use crate::machine::QemuMachine;

/// How long it may take to put a layer into another: that depends on what was
/// written to it.
const MERGE_WAIT: Duration = Duration::from_mins(10);

/// A layer, as QEMU knows it.
#[derive(Debug)]
pub(crate) struct Layer {
    /// What its nodes are called.
    pub(crate) name: String,
    /// The set of its descriptor.
    pub(crate) set: usize,
}

impl Layer {
    fn node(&self) -> String {
        top_node(&self.name)
    }

    /// What makes QEMU forget it.
    pub(crate) fn forget(&self) -> [Value; 3] {
        let delete =
            |node: String| json!({"execute": "blockdev-del", "arguments": {"node-name": node}});
        [delete(self.node()), delete(file_node(&self.name)), forget(self.set)]
    }
}

impl QemuMachine {
    /// Puts `layer` over the others, unless nothing was written to the top one.
    /// Returns whether it did.
    pub(crate) async fn put_on(&mut self, layer: &Layer) -> Result<bool, EngineError> {
        let written = self.writes().await?;
        if written == self.written {
            return Ok(false);
        }
        let top = self.layers.last().map(Layer::node);
        let arguments = json!({"node": top, "overlay": layer.node()});
        self.monitor(&[json!({"execute": "blockdev-snapshot", "arguments": arguments})]).await?;
        self.layers.push(Layer { name: layer.name.clone(), set: layer.set });
        self.written = written;
        Ok(true)
    }

    /// How often the guest has written to its disk.
    async fn writes(&mut self) -> Result<u64, EngineError> {
        let told = self.ask(&json!({"execute": "query-blockstats"})).await?;
        let none = || EngineError::NotCopied("QEMU does not say what it wrote".into());
        let disks = told.as_array().ok_or_else(none)?.iter();
        let counted = |disk: &Value, what: &str| disk["stats"][what].as_u64().unwrap_or(0);
        let kinds = ["wr_operations", "unmap_operations", "zone_append_operations"];
        Ok(disks.map(|disk| kinds.iter().map(|kind| counted(disk, kind)).sum::<u64>()).sum())
    }

    /// See [`lampyr_engine::Machine::merge`].
    pub(crate) async fn merge_into(&mut self, number: usize) -> Result<(), EngineError> {
        let above = number + 1;
        if above + 1 >= self.layers.len() {
            return Err(EngineError::Unsupported {
                what: format!("there is no layer of the disk to put into layer {number}"),
                hint: "this is a mistake in lampyr; please report it".into(),
            });
        }
        let node = |number: usize| self.layers[number].node();
        let arguments = json!({
            "job-id": "merge", "device": node(self.layers.len() - 1),
            "top-node": node(above), "base-node": node(number),
        });
        self.monitor(&[json!({"execute": "block-commit", "arguments": arguments})]).await?;
        self.merged(MERGE_WAIT).await?;
        let gone = self.layers.remove(above);
        self.monitor(&gone.forget()).await
    }
}
