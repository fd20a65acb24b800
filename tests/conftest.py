import torch
from hypothesis import settings

# On a shared machine the time of a single example says nothing, and a test that fails once must
# fail every time.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

torch.set_num_threads(1)  # the maps are small: threads cost more than they bring
