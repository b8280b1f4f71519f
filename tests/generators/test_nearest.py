"""What is said to unknown names."""

from generators.nearest import unknown


def test_near_names_are_listed_in_one_line():
    assert unknown("colour", "bleu", ["red", "blue"]) == "unknown colour 'bleu': did you mean 'blue'?"
    assert unknown("file", "IMG_1", ["img_2", "Img_10"]) == "unknown file 'IMG_1': did you mean 'Img_10' or 'img_2'?"


def test_at_most_three_near_names_or_eight_others():
    assert unknown("n", "abcd", (f"abc{i}" for i in range(9))).count(" or ") == 2
    assert unknown("n", 7, [f"Name{i}" for i in range(9)]).endswith(
        "there are " + "'Name0', 'Name1', 'Name2', 'Name3', 'Name4', 'Name5', 'Name6', 'Name7' and others."
    )
    assert unknown("mode", "rgb", ["human", "rgb_array"]) == "unknown mode 'rgb': did you mean 'rgb_array'?"
    assert unknown("n", "x", ["red", "blue"]) == "unknown n 'x': there are 'red', 'blue'."
