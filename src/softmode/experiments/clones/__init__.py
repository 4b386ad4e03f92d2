"""The clone experiment: when trajectories are copied and the copies run on, from when on do they agree?"""
