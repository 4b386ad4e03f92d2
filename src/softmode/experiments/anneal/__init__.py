"""The anneal experiment: does it pay to spend a sampler's effort, as corrector steps, inside the critical window?"""
