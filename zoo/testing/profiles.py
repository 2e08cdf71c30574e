"""Which checks a kind of thing is held to. A profile is frozen once published: new ones go into the next."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.errors import ZooError
from zoo.testing import data, heads, modules, recipes
from zoo.testing.checks import Check
from zoo.testing.family import (
    building,
    decoding,
    files,
    importing,
    learning,
    masking,
    precision,
    processes,
    specs,
)

API = 1
"""The newest."""

_FAMILY = (
    specs.spec_survives_json,
    specs.spec_survives_the_command_line,
    specs.every_field_is_documented,
    specs.bad_sizes_are_refused,
    building.builds_without_memory,
    building.fresh_weights_depend_on_the_seed_alone,
    building.fresh_weights_have_the_scale_of_the_spec,
    building.hidden_states_have_their_shape_and_dtype,
    building.what_it_repeats_stands_in_a_module_list,
    masking.padding_changes_nothing,
    masking.a_row_alone_equals_its_row_in_a_batch,
    masking.it_looks_where_its_shape_says,
    masking.packed_equals_separate,
    masking.packed_texts_never_meet,
    decoding.cached_equals_uncached,
    decoding.it_writes_alone_what_it_writes_in_a_batch,
    learning.gradients_reach_every_parameter,
    learning.learns_a_batch_by_heart,
    learning.computing_again_changes_nothing,
    precision.bfloat16_agrees_with_float32,
    precision.compiled_agrees_with_eager,
    processes.two_processes_learn_what_one_does,
    files.saved_and_loaded_it_is_the_same,
    files.transformers_loads_what_it_saves,
    files.it_equals_the_authors_reference,
    importing.its_import_is_light_and_silent,
)
_HEAD = (
    heads.head_survives_json,
    heads.every_argument_is_documented,
    heads.fits_the_shapes_that_it_says,
    heads.starts_from_the_seed_alone,
    heads.no_label_is_no_loss,
    heads.a_batch_loses_what_its_rows_lose,
    heads.padding_changes_no_loss,
    heads.gradients_reach_the_head,
    heads.the_head_learns_a_batch_by_heart,
    heads.measures_count_and_start_anew,
    heads.a_model_under_it_is_saved_and_loaded,
    heads.a_checkpoint_describes_it,
)
_DATA = (
    data.every_argument_is_documented,
    data.batches_speak_the_hubs_words,
    data.the_same_seed_gives_the_same_batches,
    data.it_goes_on_where_it_was,
    data.processes_share_the_rows,
    data.a_model_trains_on_it,
    data.other_heads_are_refused,
)
_MODULE = (
    modules.every_argument_is_documented,
    modules.it_is_light_until_it_is_built,
    modules.other_shapes_are_refused,
    modules.plain_values_make_it_again,
    modules.a_checkpoint_stands_alone,
)
_RECIPES = (
    recipes.every_recipe_says_what_it_is,
    recipes.every_recipe_holds,
    recipes.no_recipe_names_a_place_of_this_machine,
    recipes.every_recipe_fits_the_schema,
)
_PROFILES: Mapping[int, Mapping[str, Sequence[Callable[[Any], None]]]] = {
    1: {"family": _FAMILY, "head": _HEAD, "data": _DATA, "module": _MODULE, "recipes": _RECIPES},
}


def profile(kind: str, api: int = API) -> list[Check]:
    """The checks of one kind, in order; of one that has none of its own, none.

    Raises:
        ZooError: There is no such version.
    """
    if api not in _PROFILES:
        raise ZooError(f"there is no profile api={api}", hint=f"known: {', '.join(map(str, _PROFILES))}")
    return [Check(function) for function in _PROFILES[api].get(kind, ())]
