"""The pack in custom_nodes under names that a user may give it."""

import pytest
from comfy_host import ROOT


@pytest.mark.parametrize("name", ["jenga", "my jenga", "jenga-0.1", "nodes"])
def test_comfyui_loads_the_pack_under_any_name(host, tmp_path, name):
    import nodes

    pack = tmp_path / name
    pack.symlink_to(ROOT, target_is_directory=True)
    known = set(nodes.NODE_CLASS_MAPPINGS)  # they stay as they are
    assert host.wait_for(nodes.load_custom_node(str(pack), ignore=known))
    assert nodes.LOADED_MODULE_DIRS.pop(nodes.get_module_name(str(pack))) == str(pack)
    assert set(nodes.NODE_CLASS_MAPPINGS) == known
